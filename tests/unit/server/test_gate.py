"""The gate says on each answer whether its connection is kept."""

import asyncio
from typing import Any, cast

import pytest

from fleetvisor.server.descriptors import share_out
from fleetvisor.server.gate import Gate


@pytest.mark.parametrize(("crowded", "added"), [(False, ()), (True, ((b"connection", b"close"),))])
async def test_a_connection_ends_with_its_answer_while_places_are_short(crowded, added):
    nothing = cast("Any", None)
    gate = Gate(nothing, share_out(400, 0), asyncio.Event(), nothing)
    gate.crowded = crowded
    message: dict[str, Any] = {"type": "http.response.start", "status": 304, "headers": [(b"etag", b"x")]}
    gate.began({}, message)
    assert tuple(message["headers"]) == ((b"etag", b"x"), *added)
