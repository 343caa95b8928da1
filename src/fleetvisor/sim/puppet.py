"""Devices without flash: they speak the native API or DDI, and take an update as their habits have it.

For worlds in which many devices matter more than what one does inside; the whole agent is in ``board``.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from fleetvisor.agent.wire import BASE, Lost, Request, Response
from fleetvisor.protocol.lifecycle import ErrorCode, State
from fleetvisor.sim.checks import Violated
from fleetvisor.sim.loop import SeededEntropy

_ANSWER_BYTES_MAX: Final = 1 << 16
_JSON: Final = {"content-type": "application/json"}
_REFUSED: Final = frozenset({401, 403, 404})
_STEPS: Final = (State.DOWNLOADING, State.INSTALLING, State.TESTING)


class Way(Protocol):
    """How a request gets to the server."""

    async def exchange(self, request: Request) -> Response:
        """Carry one request. Raises ``Lost``."""
        ...


@dataclass(frozen=True, slots=True)
class Habits:
    """How likely each is, each time the device has something to do; ``fails`` is drawn once for an app and device.

    ``dawdles``: it tells of one more step only. ``stops``: it says nothing for ``silence_s``, 0 to twice that.
    ``reverts``: it goes back to the app that it ran before, some time after its success.
    """

    fails: float = 0.0
    dawdles: float = 0.0
    stops: float = 0.0
    reverts: float = 0.0
    silence_s: float = 600.0


GOOD: Final = Habits()


class Puppet:
    """One device, whatever it speaks: what it runs, and how it takes an update. ``turn`` is the subclasses'."""

    def __init__(self, sid: str, way: Way, entropy: SeededEntropy, running: str | None = None) -> None:
        """Make a device that runs the app with the manifest ``running``."""
        self.sid = sid
        self.habits = GOOD
        self.removed = False
        self.running = running
        self._before = running
        self._way = way
        self._chance = entropy.random
        self._steps: dict[int, int] = {}
        self._bad: dict[str, bool] = {}

    async def turn(self) -> float:
        """Ask what is desired, and do some of it; give for how many seconds it will say nothing. Raises ``Lost``."""
        if self._chance.random() < self.habits.stops:
            return self._chance.random() * 2 * self.habits.silence_s
        await self._follow()
        return 0.0

    async def _follow(self) -> None:
        raise NotImplementedError

    def _take(self, number: int, app: str) -> State:
        """Go on with an update to ``app``; return how far it is now."""
        step = self._steps.get(number, 0)
        self._steps[number] = step + 1
        if step < len(_STEPS) and self._chance.random() < self.habits.dawdles:
            return _STEPS[step]
        if app not in self._bad:
            self._bad[app] = self._chance.random() < self.habits.fails
        if self._bad[app] and self.habits.fails:
            return State.FAILED
        if self.running != app:
            self._before, self.running = self.running, app
        return State.SUCCEEDED


class NativePuppet(Puppet):
    """One that speaks the native API."""

    def __init__(self, sid: str, way: Way, entropy: SeededEntropy, running: str | None = None) -> None:
        """Begin a journal."""
        super().__init__(sid, way, entropy, running)
        self._journal = entropy.token(16).hex()
        self._sequence = 0
        self._told = running

    async def _follow(self) -> None:
        response = await self._way.exchange(Request("GET", f"{BASE}/desired", {}, b"", _ANSWER_BYTES_MAX, 60))
        if response.status != 200:
            return
        app: dict[str, Any] | None = _decode(response)["app"]
        if app is not None and app["update"] is not None:
            await self.report(app["update"], self._take(app["update"], app["manifest"]))
        elif self.running != self._before and self._chance.random() < self.habits.reverts:
            self.running = self._before
            await self.report()
        elif self._sequence == 0 or self._told != self.running or self._chance.random() < 0.2:
            await self.report()

    async def report(self, number: int = 0, state: State | None = None) -> None:
        """Say what runs, and how far an update is. Raises ``Lost``; what was not taken is said again another time."""
        self._sequence += 1
        body: dict[str, Any] = {
            "journal": self._journal,
            "sequence": self._sequence,
            "running": {"manifest": self.running},
        }
        if state is not None:
            code = ErrorCode.INSTALL_FAILED if state == State.FAILED else ErrorCode.NONE
            body["update"] = {"number": number, "state": state, "error_code": code}
        raw = msgspec.json.encode(body)
        response = await self._way.exchange(Request("POST", f"{BASE}/report", _JSON, raw, _ANSWER_BYTES_MAX, 60))
        if response.status == 200:
            self._told = body["running"]["manifest"]
            return
        if response.status not in _REFUSED:
            raise Violated(f"a report was answered with {response.status}: {response.body!r}")


class DdiPuppet(Puppet):
    """One that speaks hawkBit's DDI: it is asked before an update is taken from it, and does not always agree."""

    def __init__(self, sid: str, way: Way, entropy: SeededEntropy, token: str) -> None:
        """Keep the token: it goes into a header of another kind."""
        super().__init__(sid, way, entropy)
        self._headers = {"authorization": f"TargetToken {token}"}
        self._base = f"/DEFAULT/controller/v1/{sid}"

    async def _follow(self) -> None:
        poll = await self._ask("GET", self._base)
        if poll.status != 200:
            return
        links: dict[str, dict[str, str]] = _decode(poll).get("_links", {})
        if "cancelAction" in links:
            agrees = self._chance.random() < 0.7
            number = _number_in(links["cancelAction"]["href"])
            await self._say("cancelAction", number, "closed" if agrees else "rejected", "none")
        elif "deploymentBase" in links:
            number = _number_in(links["deploymentBase"]["href"])
            answer = await self._ask("GET", f"{self._base}/deploymentBase/{number}")
            if answer.status == 200:
                app = _decode(answer)["deployment"]["chunks"][0]["name"]
                match self._take(number, app):
                    case State.FAILED:
                        await self._say("deploymentBase", number, "closed", "failure")
                    case State.SUCCEEDED:
                        await self._say("deploymentBase", number, "closed", "success")
                    case _:
                        await self._say("deploymentBase", number, "proceeding", "none")

    async def _say(self, kind: str, number: int, execution: str, finished: str) -> None:
        body = {"id": str(number), "status": {"execution": execution, "result": {"finished": finished}}}
        path = f"{self._base}/{kind}/{number}/feedback"
        response = await self._ask("POST", path, msgspec.json.encode(body))
        if response.status not in {200, 404, 410, *_REFUSED}:
            raise Violated(f"a feedback was answered with {response.status}: {response.body!r}")

    async def _ask(self, method: Literal["GET", "POST"], path: str, body: bytes = b"") -> Response:
        headers = self._headers | (_JSON if body else {})
        return await self._way.exchange(Request(method, path, headers, body, _ANSWER_BYTES_MAX, 60))


def _number_in(href: str) -> int:
    return int(href.partition("?")[0].rpartition("/")[2])


def _decode(response: Response) -> Any:  # noqa: ANN401  (JSON is any)
    try:
        return msgspec.json.decode(response.body)
    except msgspec.DecodeError as fault:
        raise Lost("the end of the answer is missing") from fault
