"""Unchanged polls while others look through their fleets: the slow answers beside those of the idle server.

Viewers of forty other accounts keep two hundred expensive counts open, five an account: one runs and four wait, as the
server lets them. A device asks on one connection at a steady pace. Idle and crowded are measured in turn, on one core.
"""

import asyncio
import json
import os
import ssl
import statistics
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

import apsw

from bench.fleet import read_answer
from bench.machine import LOAD_CORE
from bench.million import p99
from bench.server import BenchServer, populate, start, stop

ACCOUNTS = 40
EACH = 5
DEVICES_EACH = 4000
TERMS = 90
PACE_S = 0.005
SETTLE_S = 1.0
GOAL = 3.0
_NUMBERS = "WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT :count)"
_FILL = (
    f"""INSERT INTO devices (device_sid, account_sid, date_created, date_updated) {_NUMBERS}
    SELECT 'UV' || printf('%08x%024x', :account, value), :account_sid, value, value FROM numbers""",
    f"""INSERT INTO assignments (device_sid, account_sid) {_NUMBERS}
    SELECT 'UV' || printf('%08x%024x', :account, value), :account_sid FROM numbers""",
)


@dataclass(frozen=True)
class Viewer:
    """A key that may only look, and the account that it looks through."""

    account_sid: str
    sid: str
    secret: str


def viewers(server: BenchServer) -> list[Viewer]:
    """Make the other accounts, with a viewer's key each."""
    found: list[Viewer] = []
    for _ in range(ACCOUNTS):
        account = json.loads(server.call("/v1/Accounts", data=b"FriendlyName=crowd")[0])
        basic = b64encode(f"{account['account_sid']}:{account['auth_token']}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        key = json.loads(server.call("/v1/Keys", data=b"Role=viewer", headers=headers)[0])
        found.append(Viewer(account["account_sid"], key["sid"], key["secret"]))
    return found


def fill(data: Path, crowd: list[Viewer], tick: Callable[[int], None]) -> None:
    """Give each account its devices."""
    connection = apsw.Connection(str(data / "fleetvisor.db"))
    with connection:
        for number, viewer in enumerate(crowd, 1):
            for sql in _FILL:
                keys = {"account": number, "account_sid": viewer.account_sid, "count": DEVICES_EACH}
                connection.execute(sql, keys)
            tick(number * DEVICES_EACH)
    connection.close()


class Client:
    """One connection."""

    def __init__(self, server: BenchServer, context: ssl.SSLContext) -> None:
        self._where, self._context = urlsplit(server.url), context

    async def __aenter__(self) -> Self:
        where = self._where
        self._reader, self._writer = await asyncio.open_connection(where.hostname, where.port, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, head: bytes, status: int) -> dict[bytes, bytes]:
        """Ask once; raise ``RuntimeError`` unless the answer has this status. Give its headers."""
        self._writer.write(head)
        found, headers = await read_answer(self._reader)
        if found != status:
            raise RuntimeError(f"{head.splitlines()[0]!r} was answered with {found}")
        return headers


async def count_on(client: Client, viewer: Viewer, number: int, took: list[float]) -> None:
    """Count again and again, never by the same selector."""
    basic = b64encode(f"{viewer.sid}:{viewer.secret}".encode()).decode()
    asked = 0
    async with client:
        while True:
            asked += 1
            terms = ",".join(f"!label.k{number}-{asked}-{term}" for term in range(TERMS))
            path = f"/v1/DeviceCounts?{urlencode({'Selector': terms})}"
            head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {basic}\r\n\r\n".encode()
            began = time.monotonic()
            await client.ask(head, 200)
            took.append(time.monotonic() - began)


async def poll_on(client: Client, server: BenchServer, seconds: float) -> list[float]:
    """Poll at a steady pace; give the seconds of each answer, which is always that nothing changed."""
    head = f"GET /device/v1/desired HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {server.token}\r\n"
    found: list[float] = []
    async with client:
        tag = (await client.ask(f"{head}\r\n".encode(), 200))[b"etag"].decode()
        unchanged = f"{head}If-None-Match: {tag}\r\n\r\n".encode()
        end = due = time.monotonic()
        end += seconds
        while (began := time.monotonic()) < end:
            await client.ask(unchanged, 304)
            found.append(time.monotonic() - began)
            due += PACE_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return found


@dataclass(frozen=True)
class Round:
    """The seconds of each poll of the idle server and of the crowded one, and of each count that ended meanwhile."""

    idle: list[float]
    crowded: list[float]
    counts: list[float]

    @property
    def ratio(self) -> float:
        """The slow answers of the crowded server over those of the idle one."""
        return p99(self.crowded) / p99(self.idle)


async def one_round(server: BenchServer, crowd: list[Viewer], seconds: float) -> Round:
    """Measure the idle server, then the crowded one."""
    context = ssl.create_default_context(cafile=server.ca_file)
    idle = await poll_on(Client(server, context), server, seconds)
    counts: list[float] = []
    busy = [
        asyncio.create_task(count_on(Client(server, context), viewer, number * EACH + each, counts))
        for number, viewer in enumerate(crowd)
        for each in range(EACH)
    ]
    try:
        await asyncio.sleep(SETTLE_S)
        counts.clear()
        crowded = await poll_on(Client(server, context), server, seconds)
        if failed := [task for task in busy if task.done()]:
            failed[0].result()
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    await asyncio.sleep(SETTLE_S)
    return Round(idle, crowded, counts)


def measure(root: Path, repeats: int, seconds: float, tick: Callable[[int], None]) -> tuple[str, dict[str, object]]:
    """Measure; give a table and the raw numbers."""
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    first = start(root / "data")
    crowd = viewers(first)
    stop(first)
    ((_, token),) = asyncio.run(populate(root / "data", first.auth[0], 1, lambda _: None))
    fill(root / "data", crowd, tick)
    server = start(root / "data")
    server.token = token
    try:
        rounds = [asyncio.run(one_round(server, crowd, seconds)) for _ in range(repeats)]
    finally:
        stop(server)
    return table(rounds), {
        "ratios": [one.ratio for one in rounds],
        "idle_p99_ms": [p99(one.idle) * 1000 for one in rounds],
        "crowded_p99_ms": [p99(one.crowded) * 1000 for one in rounds],
        "polls": [len(one.crowded) for one in rounds],
        "counts_s": [statistics.median(one.counts) if one.counts else None for one in rounds],
    }


def table(rounds: list[Round]) -> str:
    """Render the results as Markdown."""
    ratios = [one.ratio for one in rounds]

    def of(which: Callable[[Round], list[float]], measure: Callable[[list[float]], float]) -> str:
        return f"{statistics.median(measure(which(one)) for one in rounds) * 1000:.2f} ms"

    open_ = ACCOUNTS * EACH
    what = f"{open_} counts by {TERMS} terms open, {EACH} of each of {ACCOUNTS} accounts of {DEVICES_EACH:,} devices"
    ended = sum(len(one.counts) for one in rounds)
    lines = [
        f"| an unchanged poll (304), {1 / PACE_S:.0f} a second | idle | {open_} counts open | ratio | goal |",
        "|---|---:|---:|---:|---:|",
        (
            f"| p99 | {of(lambda one: one.idle, p99)} | {of(lambda one: one.crowded, p99)} |"
            f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | ≤ {GOAL:.0f} |"
        ),
        (
            f"| median | {of(lambda one: one.idle, statistics.median)} |"
            f" {of(lambda one: one.crowded, statistics.median)} | | |"
        ),
        "",
        f"On SQLite, {what}; {ended} counts ended meanwhile. Server on one core, clients on the other.",
    ]
    return "\n".join(lines) + "\n"
