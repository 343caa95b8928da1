"""Bad apps for simulated devices: some fail their self-test, some silence a device, some are left again later.

Which app is bad on which device is a hash, so it stays so however often it is tried, and the next run with the same
seed and the same devices repeats it. A device's first app is never bad, nor is one that it ran well before: going back
helps. Deliberately nothing of the agent is other than on a good device; bad networks and power cuts are in ``board``.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

import msgspec

from fleetvisor.agent.core import View
from fleetvisor.agent.flash import Flash
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.slots import Slots
from fleetvisor.agent.state import Snapshot
from fleetvisor.agent.wire import BASE, Request, Response, Transport
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.protocol.lifecycle import State
from fleetvisor.protocol.native import Desired, Report

Fate = Literal["well", "fail", "silent", "revert"]
_desired: Final = msgspec.json.Decoder(Desired)
_report: Final = msgspec.json.Decoder(Report)


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of the devices, in [0, 1] and together at most 1, on which an app is bad, and how.

    ``fail``: it fails its self-test. ``silent``: the device is never heard of again once it installs. ``revert``: it
    succeeds, and ``revert_after_s`` later the device runs the old app again. ``manifest``: only the app with this
    manifest can be bad.
    """

    fail: float = 0.0
    silent: float = 0.0
    revert: float = 0.0
    seed: int = 0
    manifest: str | None = None
    revert_after_s: float = 5.0

    def fate(self, device_sid: str, manifest: str) -> Fate:
        """Return what becomes of a device with an app."""
        if self.manifest not in {None, manifest}:
            return "well"
        digest = sha256(f"{self.seed} {device_sid} {manifest}".encode()).digest()
        at = (int.from_bytes(digest[:8]) >> 11) / (1 << 53)
        if at < self.fail:
            return "fail"
        if at < self.fail + self.silent:
            return "silent"
        return "revert" if at < self.fail + self.silent + self.revert else "well"


class FellSilent(Exception):
    """The device will never be heard of again."""


class FellBack(Exception):
    """The device left the app that it had confirmed: at its next boot the other slot runs."""


class FaultyDevice:
    """What stands between one device's agent and its server: it learns from what they say which app is at hand."""

    def __init__(self, transport: Transport, faults: Faults, device_sid: str, clock: Clock) -> None:
        """Listen in on ``transport``."""
        self._transport = transport
        self._faults = faults
        self._sid = device_sid
        self._clock = clock
        self._wanted: str | None = None
        self._runs: str | None = None
        self._good: set[str] = set()
        self._back_s: float | None = None

    @property
    def silent_view(self) -> View:
        """Return what there is to see of the device once it is silent."""
        return View("silent", self._runs, 0, 0, logging=False)

    def self_test(self, manifest: str) -> bool:
        """Return whether an app passes its self-test."""
        return self._fate(manifest) != "fail"

    async def exchange(self, request: Request) -> Response:
        """Carry a request. Raises ``FellSilent`` and ``FellBack``, as well as what the transport raises."""
        report = _report.decode(request.body) if request.path == f"{BASE}/report" else None
        if report is not None and report.update is not None and report.update.state == State.DOWNLOADING:
            self._back_s = None  # the old app is being overwritten: there is no way back to it
        response = await self._carry(request)
        if 200 <= response.status < 300:
            if report is not None:
                self._heed(report)
            elif request.path == f"{BASE}/desired":
                app = _desired.decode(response.body).app
                self._wanted = None if app is None else app.manifest
        return response

    async def _carry(self, request: Request) -> Response:
        if self._back_s is None:
            return await self._transport.exchange(request)
        left_s = self._back_s - self._clock.monotonic()
        try:
            async with self._clock.timeout(max(0.0, left_s)):
                return await self._transport.exchange(request)
        except TimeoutError:
            self._back_s = None
            raise FellBack from None

    def _heed(self, report: Report) -> None:
        """Learn from a report that the server has."""
        state = None if report.update is None else report.update.state
        runs = report.running.manifest
        if state == State.TESTING:
            return  # what runs is on trial
        if state == State.INSTALLING and self._wanted is not None and self._fate(self._wanted) == "silent":
            raise FellSilent
        if runs is not None and state in {None, State.SUCCEEDED}:
            fate = self._fate(runs)
            if fate == "well":
                self._good.add(runs)
            elif fate == "revert" and state == State.SUCCEEDED:
                self._back_s = self._clock.monotonic() + self._faults.revert_after_s
        self._runs = runs

    def _fate(self, manifest: str) -> Fate:
        if self._runs is None or manifest in self._good:
            return "well"
        return self._faults.fate(self._sid, manifest)


def go_back(flash: Flash, geometry: Geometry, entropy: Entropy) -> None:
    """Let the other slot be the confirmed one, in the flash of a device that is off, if it holds an app."""
    slots = Slots(flash, geometry, entropy)
    confirmed = slots.state.confirmed
    if confirmed is not None and slots.state.slots[1 - confirmed] is not None:
        slots.keep(Snapshot(msgspec.structs.replace(slots.state, confirmed=1 - confirmed)))
