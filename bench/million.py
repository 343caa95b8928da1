"""A fleet of a million beside one of a thousand: what a selector's page costs, and what a release does to the API.

The pages are compared by CPU in the same run, as beside nginx; both have fifty rows. The release is watched by a client
that asks for devices at a steady pace: its slow answers while a wave of a hundred thousand goes out, beside those of
the idle server.
"""

import asyncio
import hashlib
import http.client
import json
import random
import ssl
import statistics
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from bench.machine import wrk
from bench.rounds import Side, alternate
from bench.server import BenchServer, start, stop, upload
from fleetvisor.db.sqlite import open_sqlite
from fleetvisor.features.identity.imports import Imports
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.pack import pack
from fleetvisor.reality import RealClock, RealEntropy, inline

PAGE = 50
SMALL = 1000
BATCH = 50_000
PACE_S = 0.02
WATCH_S = 15.0
RELEASE_S = 900.0


@dataclass(frozen=True)
class Fleet:
    """A server and how many devices it has."""

    server: BenchServer
    devices: int


def fill(data: Path, account_sid: str, count: int, share: int, tick: Callable[[int], None]) -> None:
    """Register ``count`` devices through the import; one of ``share`` has the label ``site=graz``."""

    async def work() -> None:
        db = await open_sqlite(data / "fleetvisor.db")
        imports = Imports(db=db, clock=RealClock(), entropy=RealEntropy(), limits=Limits(), offload=inline)
        for first in range(0, count, BATCH):
            rows = ["name,token_hash,labels"]
            for number in range(first, min(first + BATCH, count)):
                site = "graz" if number % share == 0 else f"s{number % 97}"
                rows.append(f"d{number},{hashlib.sha256(b'%d' % number).hexdigest()},site={site}")
            batch = data / "batch.csv"
            batch.write_text("\n".join(rows))
            await imports.import_batch(account_sid, batch)
            batch.unlink()
            tick(min(first + BATCH, count))
        await db.close()

    asyncio.run(work())


def made(root: Path, count: int, share: int, tick: Callable[[int], None]) -> Fleet:
    """Make a fleet and start its server."""
    data = root / f"data-{count}"
    first = start(data)
    stop(first)
    fill(data, first.auth[0], count, share, tick)
    return Fleet(start(data), count)


def selector_page(fleet: Fleet) -> Side:
    """Load the page of a selector that is followed along an index."""
    basic = "Basic " + b64encode(":".join(fleet.server.auth).encode()).decode()
    url = f"{fleet.server.url}/v1/Devices?PageSize={PAGE}&Selector=site%3Dgraz"
    rows = len(json.loads(fleet.server.call(url)[0])["devices"])
    if rows != PAGE:
        raise RuntimeError(f"the page has {rows} rows")
    pid = fleet.server.process.pid
    return lambda seconds: wrk(url, pid, seconds=seconds, connections=8, headers={"Authorization": basic})


def timed(fleet: Fleet, path: str) -> float:
    """Give the seconds of one call."""
    started = time.monotonic()
    fleet.server.call(path)
    return time.monotonic() - started


class Watcher:
    """Asks for devices at a steady pace, on one connection, and keeps how long each answer took, in seconds."""

    def __init__(self, fleet: Fleet) -> None:
        where = urlsplit(fleet.server.url)
        context = ssl.create_default_context(cafile=fleet.server.ca_file)
        self._connection = http.client.HTTPSConnection(where.hostname or "", where.port, context=context, timeout=30)
        basic = b64encode(":".join(fleet.server.auth).encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}"}
        self._names = [f"d{random.randrange(fleet.devices)}" for _ in range(5000)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.found: list[float] = []

    def _ask(self) -> None:
        due = time.monotonic()
        for name in self._names * 100:
            if self._stop.is_set():
                return
            started = time.monotonic()
            self._connection.request("GET", f"/v1/Devices/{name}", headers=self._headers)
            self._connection.getresponse().read()
            self.found.append(time.monotonic() - started)
            due += PACE_S
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._connection.close()


def p99(found: list[float]) -> float:
    """Give the 99th percentile."""
    return statistics.quantiles(found, n=100)[98]


def release(fleet: Fleet, wave: int) -> dict[str, float]:
    """Release a wave of ``wave`` devices; give how long it took, and the API's p99 before and during it."""
    server = fleet.server
    app_sid = upload(server, pack(b"firmware of the release" * 100))
    with Watcher(fleet) as idle:
        time.sleep(WATCH_S)
    form = f"App={app_sid}&Selector=*&Waves={wave}&Soak=86400&OfflineAfter=86400".encode()
    sid = json.loads(server.call("/v1/Rollouts", data=form)[0])["sid"]
    with Watcher(fleet) as during:
        started = time.monotonic()
        server.call(f"/v1/Rollouts/{sid}", data=b"Action=start")
        opened = 0.0
        while True:
            shown = json.loads(server.call(f"/v1/Rollouts/{sid}")[0])
            spent = time.monotonic() - started
            opened = opened or (spent if shown["wave"] else 0.0)
            if shown["wave"] and shown["waves"][0]["date_offered"]:
                break
            if spent > RELEASE_S:
                raise RuntimeError(f"the wave was not released in {RELEASE_S} s: {shown['counts']}")
            time.sleep(0.5)
    if shown["counts"]["updating"] != wave:
        raise RuntimeError(f"the wave is not whole: {shown['counts']}")
    return {
        "wave": wave,
        "selection_s": opened,
        "release_s": spent - opened,
        "idle_p99_ms": p99(idle.found) * 1000,
        "release_p99_ms": p99(during.found) * 1000,
        "idle_median_ms": statistics.median(idle.found) * 1000,
        "release_median_ms": statistics.median(during.found) * 1000,
    }


def measure(
    root: Path, devices: int, wave: int, repeats: int, seconds: float, tick: Callable[[int], None]
) -> tuple[str, dict[str, object]]:
    """Measure both fleets; give a table and the raw numbers."""
    small = made(root, SMALL, SMALL // PAGE, lambda _: None)
    large = made(root, devices, 100, tick)
    try:
        ours, peers = alternate(
            "selector", selector_page(large), selector_page(small), repeats=repeats, seconds=seconds, tick=lambda: None
        )
        ratios = [own.cpu_us / peer.cpu_us for own, peer in zip(ours, peers, strict=True)]
        found = release(large, wave)
        counts = {
            f"by {by}{about}": timed(large, f"/v1/DeviceCounts?By={by}{selector}")
            for about, selector in (("", ""), (" of a selection of 99 %", "&Selector=site%21%3Dgraz"))
            for by in ("status", "app", "site")
        }
    finally:
        stop(small.server)
        stop(large.server)
    page = {
        "ratios": ratios,
        "large_us": statistics.median(sample.cpu_us for sample in ours),
        "small_us": statistics.median(sample.cpu_us for sample in peers),
    }
    text = table(devices, page["large_us"], page["small_us"], ratios, counts, found)
    return text, {"devices": devices, "page": page, "counts_s": counts, "release": found}


def table(
    devices: int,
    large_us: float,
    small_us: float,
    ratios: list[float],
    counts: dict[str, float],
    found: dict[str, float],
) -> str:
    """Render the results as Markdown."""
    slower = found["release_p99_ms"] / found["idle_p99_ms"]
    lines = [
        f"| of {devices:,} devices, on SQLite | | goal |",
        "|---|---:|---|",
        (
            f"| selector page of {PAGE}, against {SMALL:,} devices | {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f}; {large_us:.0f} µs, {small_us:.0f} µs) | ≤ 1.3 |"
        ),
        *(f"| counts {what} | {seconds:.2f} s | |" for what, seconds in counts.items()),
        f"| selection counted at the start | {found['selection_s']:.1f} s | |",
        (
            f"| release of a wave of {found['wave']:,.0f} | {found['release_s']:.1f} s"
            f" ({found['wave'] / max(found['release_s'], 0.001):,.0f} a second) | |"
        ),
        (
            f"| p99 of GET Device meanwhile, against idle | {slower:.2f} ({found['release_p99_ms']:.1f} ms,"
            f" {found['idle_p99_ms']:.1f} ms) | ≤ 3 |"
        ),
    ]
    return "\n".join(lines) + "\n"
