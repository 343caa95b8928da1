"""Requests through httpx: what is sent, and what every kind of trouble becomes."""

import asyncio

import httpx
import pytest

from fleetvisor.agent.transport import HttpTransport, Pool, open_pool
from fleetvisor.agent.wire import Lost, Request, Response

GET = Request("GET", "/device/v1/desired", {"prefer": "wait=5"}, b"", 100, 10)


def exchange(handler: httpx.MockTransport, request: Request = GET) -> Response:
    async def main() -> Response:
        async with Pool(lambda: handler) as pool:
            return await HttpTransport(pool, "https://server:8443/", "fvd_secret").exchange(request)

    return asyncio.run(main())


def test_a_request_carries_the_credential_and_the_headers() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"ETag": '"1"'}, content=b"{}")

    response = exchange(httpx.MockTransport(answer))
    assert str(seen[0].url) == "https://server:8443/device/v1/desired"
    assert seen[0].headers["authorization"] == "Bearer fvd_secret"
    assert seen[0].headers["prefer"] == "wait=5"
    assert response == Response(200, response.headers, b"{}")
    assert response.headers["etag"] == '"1"'


def test_an_answer_that_is_too_long_is_cut_not_kept() -> None:
    response = exchange(httpx.MockTransport(lambda _: httpx.Response(200, content=bytes(1000))))
    assert response.cut
    assert len(response.body) == 100


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.PoolTimeout])
def test_every_fault_of_the_connection_is_a_lost_request(fault: type[httpx.TransportError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise fault("broken")

    with pytest.raises(Lost, match=fault.__name__):
        exchange(httpx.MockTransport(answer))


def test_a_redirect_is_not_followed() -> None:
    response = exchange(httpx.MockTransport(lambda _: httpx.Response(302, headers={"location": "https://evil/"})))
    assert response.status == 302


def test_every_device_has_a_connection_of_its_own_and_all_are_closed_together() -> None:
    class Counted(httpx.AsyncBaseTransport):
        closed = 0

        async def aclose(self) -> None:
            Counted.closed += 1

    async def main() -> None:
        async with Pool(Counted) as pool:
            first, second = HttpTransport(pool, "https://a", "1"), HttpTransport(pool, "https://a", "2")
            assert first._connection is not second._connection  # noqa: SLF001
            assert Counted.closed == 0
        assert Counted.closed == 2

    asyncio.run(main())


def test_without_a_ca_file_the_system_is_trusted() -> None:
    async def main() -> None:
        async with open_pool(None) as pool:
            assert isinstance(pool.connect(), httpx.AsyncHTTPTransport)

    asyncio.run(main())
