"""The simulated network: what the application sees, and what each kind of weather does to a request."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleetvisor.agent.wire import Lost, Request, Response
from fleetvisor.sim.loop import SeededEntropy, VirtualClock, run_virtual
from fleetvisor.sim.network import CALM, Link, Network, Weather

POST = Request("POST", "/device/v1/report?x=1", {"content-type": "text/plain"}, b"hello", 100, 30)


class Echo:
    """An ASGI application that answers what it was sent, and notes whether its client stayed."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.gone = 0

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.scopes.append(scope)
        body = (await receive())["body"]
        if body == b"hold":
            assert (await receive())["type"] == "http.disconnect"
            self.gone += 1
            return
        if body == b"fail":
            raise RuntimeError("broken")
        headers = [(b"Content-Length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:2], "more_body": True})
        await send({"type": "http.response.body", "body": body[2:]})


def outcomes(weather: Weather, count: int = 300) -> tuple[Counter[str], Echo]:
    async def main() -> tuple[Counter[str], Echo]:
        echo = Echo()
        link = Link(Network(echo, VirtualClock(), weather), "fvd_1", SeededEntropy(1))
        seen: Counter[str] = Counter()
        for _ in range(count):
            try:
                seen[(await link.exchange(POST)).body.decode()] += 1
            except Lost as lost:
                seen[str(lost)] += 1
        await asyncio.sleep(1000)
        return seen, echo

    return run_virtual(main())


def test_a_request_arrives_with_its_headers_and_its_credential() -> None:
    seen, echo = outcomes(CALM, 1)
    assert seen == {"hello": 1}
    scope = echo.scopes[0]
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/device/v1/report", b"x=1")
    assert (b"authorization", b"Bearer fvd_1") in scope["headers"]
    assert (b"content-length", b"5") in scope["headers"]


def test_in_bad_weather_some_requests_and_some_answers_are_dropped() -> None:
    seen, echo = outcomes(Weather(drop=0.2))
    assert 30 < seen["the request was dropped"] < 90
    assert 30 < seen["the answer was dropped"] < 90
    assert len(echo.scopes) == seen["the answer was dropped"] + seen["hello"]


def test_in_bad_weather_some_requests_come_twice() -> None:
    seen, echo = outcomes(Weather(repeat=0.2))
    assert seen == {"hello": 300}
    assert 330 < len(echo.scopes) < 390


def test_in_bad_weather_some_answers_are_cut_short_noticed_or_not() -> None:
    seen, _ = outcomes(Weather(truncate=0.4))
    assert seen["the connection was closed in the middle of a body"] > 30
    assert sum(seen[text] for text in ("", "h", "he", "hel", "hell")) > 30


def test_an_application_whose_client_went_away_is_told_but_not_cancelled() -> None:
    async def main() -> int:
        echo, clock = Echo(), VirtualClock()
        link = Link(Network(echo, clock), "fvd_1", SeededEntropy(1))
        with pytest.raises(TimeoutError):
            async with clock.timeout(5):
                await link.exchange(Request("POST", "/", {}, b"hold", 10, 5))
        await clock.sleep(1)
        return echo.gone

    assert run_virtual(main()) == 1


def test_an_application_that_raises_is_kept_for_the_checks() -> None:
    async def main() -> None:
        network = Network(Echo(), VirtualClock())
        with pytest.raises(Lost):
            await Link(network, "fvd_1", SeededEntropy(1)).exchange(Request("POST", "/", {}, b"fail", 10, 5))
        assert [type(fault) for fault in network.faults] == [RuntimeError]

    run_virtual(main())


def test_an_answer_longer_than_asked_for_is_cut() -> None:
    async def main() -> Response:
        link = Link(Network(Echo(), VirtualClock()), "fvd_1", SeededEntropy(1))
        return await link.exchange(Request("POST", "/", {}, b"hello", 3, 5))

    response = run_virtual(main())
    assert (response.body, response.cut) == (b"hel", True)
