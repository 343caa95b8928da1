"""Held polls by the thousand, from one process on the other core: raw TLS streams, because clients cost more."""

import asyncio
import os
import ssl
import time
from urllib.parse import urlsplit

from bench.machine import LOAD_CORE
from bench.server import BenchServer

AT_ONCE = 100


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    """Read one answer; give its status and headers."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines if line)
    }
    if length := int(headers.get(b"content-length", b"0")):
        await reader.readexactly(length)
    return int(first.split()[1]), headers


async def hold(server: BenchServer, count: int) -> list[asyncio.Task[float]]:
    """Open ``count`` connections with one held poll each; each task ends with the time of its answer."""
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    fleet = (server.fleet or [])[1 : count + 1]
    if len(fleet) < count:
        raise RuntimeError(f"holding {count} polls needs as many devices and one more")
    context = ssl.create_default_context(cafile=server.ca_file)
    where = urlsplit(server.url)
    door = asyncio.Semaphore(AT_ONCE)

    async def one(token: str) -> asyncio.Task[float]:
        async with door:
            reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=context)
            head = f"GET /device/v1/desired HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
            writer.write(f"{head}\r\n".encode())
            _, headers = await read_answer(reader)
            tag = headers[b"etag"].decode()
            writer.write(f"{head}If-None-Match: {tag}\r\nPrefer: wait=300\r\n\r\n".encode())

        async def answered() -> float:
            status, _ = await read_answer(reader)
            moment = time.monotonic()
            writer.close()
            if status != 200:
                raise RuntimeError(f"a held poll was answered with {status}")
            return moment

        return asyncio.create_task(answered())

    return list(await asyncio.gather(*[one(token) for _, token in fleet]))


async def wake(server: BenchServer, waiters: list[asyncio.Task[float]]) -> float:
    """Change every device that waits; give the seconds from the first request to the last answer."""
    fleet = (server.fleet or [])[1 : len(waiters) + 1]
    started = time.monotonic()

    def change() -> None:
        for sid, _ in fleet:
            server.call(f"/v1/Devices/{sid}", data=b"RestartApp=true")

    await asyncio.to_thread(change)
    return max(await asyncio.gather(*waiters)) - started
