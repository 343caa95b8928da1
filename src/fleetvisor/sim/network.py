"""A network in memory between agents and the real ASGI application: it delays, drops, repeats and truncates.

Every link draws from its own seeded entropy, so one device's luck does not depend on another's. The application
goes on with a request whose client went away, exactly as it does behind the real server; what it raises is kept
in ``faults``, because an application that raises is wrong.

Deliberately no sockets, no TLS and no HTTP parser: the tests on real sockets cover those. Spec: ASGI 3.0.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from fleetvisor.agent.wire import Lost, Request, Response
from fleetvisor.ground.clock import Clock
from fleetvisor.sim.loop import SeededEntropy

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each trouble is for one exchange; ``delay_s`` bounds an ordinary delay, ``stall_s`` a rare one."""

    drop: float = 0.0
    repeat: float = 0.0
    truncate: float = 0.0
    stall: float = 0.0
    delay_s: float = 0.05
    stall_s: float = 120.0


CALM: Final = Weather()


class Down(Lost):
    """The node that had the request is dead: the client hears nothing, which is nobody's fault."""


class Network:
    """Carries requests into ``app``. ``weather`` may be changed at any time."""

    def __init__(self, app: App, clock: Clock, weather: Weather = CALM) -> None:
        """Connect to ``app``."""
        self.app = app
        self.clock = clock
        self.weather = weather
        self.faults: list[BaseException] = []
        self.exchanges = 0
        self._trace = hashlib.sha256()
        self._under_way: set[asyncio.Task[Response | None]] = set()

    @property
    def trace(self) -> str:
        """Return a digest of every request and answer so far, and of when they were."""
        return self._trace.hexdigest()

    async def call(self, request: Request, headers: Mapping[str, str], gone: asyncio.Event) -> Response:
        """Run one request through the application; ``gone`` tells it that the client went away."""
        answer: list[Message] = []
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": request.body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answer.append(message)

        await self.app(_scope(request, headers), receive, send)
        response = _response(answer)
        moment = f"{self.clock.monotonic():.6f} {request.method} {request.path} {response.status} "
        self._trace.update(moment.encode() + request.body + response.body)
        return response

    async def exchange(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Carry one request in fair weather. Raises ``Lost`` when the application fails."""
        self.exchanges += 1
        gone = asyncio.Event()
        task = self.start(request, headers, gone, 0.0)
        try:
            response = await asyncio.shield(task)
        except asyncio.CancelledError:
            gone.set()
            raise
        if response is None:
            raise Lost("the server failed")
        return response

    def start(
        self, request: Request, headers: Mapping[str, str], gone: asyncio.Event, delay_s: float
    ) -> "asyncio.Task[Response | None]":
        """Begin a request after ``delay_s``, which goes on whatever happens to who began it."""

        async def carry() -> Response | None:
            await self.clock.sleep(delay_s)
            try:
                return await self.call(request, headers, gone)
            except Down:
                return None
            except Exception as fault:  # noqa: BLE001  (kept for the checks; a server would answer 500)
                if not gone.is_set():
                    self.faults.append(fault)
                return None

        task = asyncio.create_task(carry())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


class Link:
    """One device's way through the network, with its credential. A transport of the agent."""

    def __init__(self, network: Network, token: str, entropy: SeededEntropy) -> None:
        """Carry the credential ``token``; every trouble comes from ``entropy``."""
        self._network = network
        self._headers = {"authorization": f"Bearer {token}"}
        self._entropy = entropy

    async def exchange(self, request: Request) -> Response:
        """Carry one request through the weather. Raises ``Lost``."""
        network, weather = self._network, self._network.weather
        headers = {**self._headers, **request.headers}
        await network.clock.sleep(self._entropy.fraction() * weather.delay_s)
        if self._chance(weather.stall):
            await network.clock.sleep(self._entropy.fraction() * weather.stall_s)
        if self._chance(weather.drop):
            raise Lost("the request was dropped")
        if self._chance(weather.repeat):
            self._repeat(request, headers)
        response = await network.exchange(request, headers)
        if self._chance(weather.drop):
            raise Lost("the answer was dropped")
        if self._chance(weather.stall):
            await network.clock.sleep(self._entropy.fraction() * weather.stall_s)
        if response.body and self._chance(weather.truncate):
            response = self._truncate(response)
        await network.clock.sleep(self._entropy.fraction() * weather.delay_s)
        return _cut(response, request.body_bytes_max)

    def _chance(self, likelihood: float) -> bool:
        return likelihood > 0 and self._entropy.fraction() < likelihood

    def _repeat(self, request: Request, headers: Mapping[str, str]) -> None:
        """Send the same request once more, now or much later, to nobody."""
        gone = asyncio.Event()
        asyncio.get_running_loop().call_later(_PATIENCE_S + self._network.weather.stall_s, gone.set)
        self._network.start(request, headers, gone, self._entropy.fraction() * self._network.weather.stall_s)

    def _truncate(self, response: Response) -> Response:
        """Lose the end of a body: noticed where its length was announced, unnoticed where it was not."""
        if self._entropy.fraction() < 0.5:
            raise Lost("the connection was closed in the middle of a body")
        length = int(self._entropy.fraction() * len(response.body))
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response(response.status, headers, response.body[:length])


def _cut(response: Response, bytes_max: int) -> Response:
    if len(response.body) <= bytes_max:
        return response
    return Response(response.status, response.headers, response.body[:bytes_max], cut=True)


def _scope(request: Request, headers: Mapping[str, str]) -> Message:
    path, _, query = request.path.partition("?")
    fields = {"host": "sim.invalid", "content-length": str(len(request.body)), **headers}
    if not request.body and request.method in {"GET", "HEAD", "DELETE"}:
        del fields["content-length"]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        "client": ("192.0.2.1", 50_000),
        "server": ("sim.invalid", 443),
        "state": {},
        "extensions": {},
    }


def _response(answer: list[Message]) -> Response:
    start: Message = answer[0] if answer else {}
    if start.get("type") != "http.response.start" or answer[-1].get("more_body", False):
        raise Lost("the application gave no whole answer")
    fields: list[tuple[bytes, bytes]] = list(start["headers"])
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields}
    body = b"".join(bytes(message.get("body", b"")) for message in answer[1:])
    return Response(int(start["status"]), headers, body)
