"""A tiny server of the native device API for one device, and a bench that cuts the device's power."""

from collections.abc import Callable

import msgspec
from tests.unit.agent.script import GEOMETRY, MANIFESTS, OPTIONS, app, desired, firmware, manifest

from fleetvisor.agent.flash import Moment, Operation, PowerCut
from fleetvisor.agent.runner import Behaviour, Device, memory_flash
from fleetvisor.agent.slots import Slots
from fleetvisor.agent.wire import Lost, Request, Response
from fleetvisor.protocol.lifecycle import State, may_follow
from fleetvisor.protocol.native import Desired, Report, ReportAnswer
from fleetvisor.sim.loop import SeededEntropy, VirtualClock


class TinyServer:
    """Assigns one app after the other; what it was told is in ``running`` and ``closed``."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.number = 0
        self.target: str | None = None
        self.state = State.SUCCEEDED
        self.running: str | None = None
        self.journal = ("", 0)
        self.named: set[str] = set()
        self.politeness_s = 0
        self.requests = 0

    def assign(self, name: str) -> None:
        self.number += 1
        self.target, self.state = name, State.PENDING
        self.named.add(manifest(name))

    @property
    def open(self) -> bool:
        return self.state not in {State.SUCCEEDED, State.FAILED}

    def desired(self) -> Desired:
        target = None if self.target is None else app(self.target, self.number if self.open else None)
        return desired(target, politeness_s=self.politeness_s)

    async def exchange(self, request: Request) -> Response:
        self.requests += 1
        await self.clock.sleep(0.05)
        if request.path.endswith("/desired"):
            return await self._desired(request)
        if request.path.endswith("/report"):
            return self._report(msgspec.json.decode(request.body, type=Report))
        if "/manifests/" in request.path:
            return Response(200, {}, MANIFESTS[request.path.rpartition("/")[2]])
        first, last = (int(part) for part in request.headers["range"].removeprefix("bytes=").split("-"))
        for name in ("v1", "v2", "v3"):
            if request.path.endswith(app(name, 1).layers[0].sha256):
                headers = {"content-range": f"bytes {first}-{last}/300"}
                return Response(206, headers, firmware(name)[first : last + 1])
        return Response(404, {}, b"no such layer")

    async def _desired(self, request: Request) -> Response:
        etag = f'"{self.number}-{self.open}"'
        if request.headers.get("if-none-match") == etag:
            if "prefer" in request.headers:
                await self.clock.sleep(int(request.headers["prefer"].removeprefix("wait=")))
            if request.headers["if-none-match"] == f'"{self.number}-{self.open}"':
                return Response(304, {}, b"")
        return Response(200, {"etag": f'"{self.number}-{self.open}"'}, msgspec.json.encode(self.desired()))

    def _report(self, report: Report) -> Response:
        taken = report.journal != self.journal[0] or report.sequence > self.journal[1]
        if taken:
            self.journal = (report.journal, report.sequence)
            self.running = report.running.manifest
            update = report.update
            if update is not None and update.number == self.number and may_follow(self.state, update.state):
                self.state = update.state
        return Response(200, {}, msgspec.json.encode(ReportAnswer(taken)))


class Lossy:
    """Drops requests and answers by chance."""

    def __init__(self, server: TinyServer, chance: float, seed: int) -> None:
        self.server, self.chance, self.entropy = server, chance, SeededEntropy("lossy", seed)

    async def exchange(self, request: Request) -> Response:
        if self.entropy.fraction() < self.chance:
            raise Lost("dropped before the server")
        response = await self.server.exchange(request)
        if self.entropy.fraction() < self.chance:
            raise Lost("dropped behind the server")
        return response


class Bench:
    """One device on a flash whose power fails where ``cuts`` say; checks what runs at every boot."""

    def __init__(self, cuts: dict[int, Moment], *, seed: int = 0, behaviour: Behaviour | None = None) -> None:
        self.clock = VirtualClock()
        self.server = TinyServer(self.clock)
        self.flash = memory_flash(GEOMETRY)
        self.flash.tear = SeededEntropy("tear", seed)
        self.flash.strike = self._strike
        self.cuts = cuts
        self.operations = 0
        self.boots = 0
        self.had_app = False
        self.entropy = SeededEntropy("device", seed)
        self.behaviour = behaviour or Behaviour()

    def _strike(self, _: Operation) -> Moment | None:
        self.operations += 1
        return self.cuts.get(self.operations - 1)

    async def live(self, until: Callable[[], bool], *, for_s: float = 3600) -> None:
        """Run the device, switching it on again after each cut, until the condition holds."""
        device = Device(
            flash=self.flash,
            geometry=GEOMETRY,
            transport=self.server,
            clock=self.clock,
            entropy=self.entropy,
            options=OPTIONS,
            behaviour=self.behaviour,
        )
        deadline_s = self.clock.monotonic() + for_s
        while not until():
            assert self.clock.monotonic() < deadline_s, "the device does not converge"
            try:
                async with self.clock.timeout(30):
                    await device.run_until_reboot()
            except TimeoutError:
                pass
            except PowerCut:
                await self.clock.sleep(1)
            self.boots += 1
            self.check()

    def check(self) -> None:
        """What the next boot would run is whole, and an update named it; a device that had an app has one."""
        strike, self.flash.strike = self.flash.strike, None
        slots = Slots(self.flash, GEOMETRY, SeededEntropy("checker"))
        assert slots.state.confirmed is not None or not self.had_app, "bricked"
        self.had_app = slots.state.confirmed is not None
        for slot in {slots.state.confirmed, slots.state.trial.slot if slots.state.trial else None} - {None}:
            image = slots.state.slots[slot]
            assert image is not None
            assert image.manifest in self.server.named
            names = {manifest(name): name for name in ("v1", "v2", "v3")}
            content = slots.read(slot, app(names[image.manifest], 1).layers[0])
            assert content == firmware(names[image.manifest]).ljust(512, b"\xff")
        self.flash.strike = strike
