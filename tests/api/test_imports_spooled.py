"""An import lies on disk, not in memory; an account has one at a time, and leaves no file behind."""

import asyncio
import hashlib
import tracemalloc

import pytest
from tests.api.world import serving

from fleetvisor.db.sqlite import memory

HEADER = b"name,token_hash,labels\n"
MEMORY_MAX = 24 << 20
MOST = 64 << 20


def line(number, labels=""):
    return f"d{number},{hashlib.sha256(b'%d' % number).hexdigest()},{labels}\n".encode()


async def upload(hands, content, *, ok):
    return await hands.call("POST", "/v1/DeviceImports", ok=ok, content=content, headers={"content-type": "text/csv"})


async def test_a_second_import_of_the_account_is_refused_until_the_first_is_done(server, hands):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        yield HEADER + line(1)
        begun.set()
        await go_on.wait()
        yield line(2)

    first = asyncio.ensure_future(upload(hands, slow(), ok=201))
    await begun.wait()
    refused = await upload(hands, HEADER + line(3), ok=429)
    assert int(refused.headers["retry-after"]) > 0
    stranger = await server.stranger()
    await upload(stranger, HEADER + line(4), ok=201)
    go_on.set()
    assert (await first).json["count"] == 2
    await upload(hands, HEADER + b"x,y,\n", ok=400)
    assert (await upload(hands, HEADER + line(3), ok=201)).json["count"] == 1
    assert (await hands.get("/v1/DeviceCounts"))["total"] == 3


def wide():
    """Make 64 MiB in long lines."""
    labels = "site=graz" + " " * 14_000
    size, number = len(HEADER), 0
    yield HEADER
    while size + 15_000 < MOST:
        block = line(number, labels)
        size, number = size + len(block), number + 1
        yield block


def narrow():
    yield HEADER
    for first in range(0, 5000, 1000):
        yield b"".join(line(number) for number in range(first, first + 1000))


def one_row():
    yield HEADER
    for _ in range(900):
        yield b'"a\n",' * (12 << 10)


def blanks():
    yield HEADER
    for _ in range(63):
        yield b"\r" * (1 << 20)


@pytest.mark.parametrize(("file", "status"), [(wide, 201), (narrow, 201), (one_row, 400), (blanks, 400)])
async def test_the_largest_import_takes_little_memory_and_leaves_no_file(tmp_path, file, status):
    async with serving(memory(), tmp_path, import_rows_max=12_000) as server:

        async def content():
            for block in file():
                yield block

        await upload(server.hands, HEADER + line(10**9), ok=201)
        tracemalloc.start()
        answer = await upload(server.hands, content(), ok=status)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= MEMORY_MAX, f"{peak / (1 << 20):.1f} MiB"
        assert not list(tmp_path.rglob("import-*"))
        if status == 201:
            assert (await server.hands.get("/v1/DeviceCounts"))["total"] == answer.json["count"] + 1
