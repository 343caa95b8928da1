"""``make bench``: measures the hot paths beside nginx and gooseBit, prints and writes tables to ``bench/results/``.

Beside nginx each figure is a ratio of CPU: nginx's CPU per request over ours, both on the same core in the same run,
interleaved; beside gooseBit (``bench/versus``), of answers per second. The median of the repeats is quoted, with the
least and the greatest.
"""

import argparse
import asyncio
import base64
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import crowd, fleet, million, versus
from bench.goosebit import Unavailable
from bench.machine import free_port, nginx, resident_bytes, wrk
from bench.rounds import Side, alternate
from bench.server import BenchServer, serving

ROOT = Path(__file__).resolve().parent
DEVICES = 100_000
HELD = 10_000
LAYER_BYTES = 256 << 10
RANGE_BYTES = 64 << 10


@dataclass(frozen=True)
class Case:
    """One comparison: our request, its peer, and the ratio that is aimed at."""

    name: str
    ours: Side
    peer: Side
    peer_name: str
    goal: str


@dataclass(frozen=True)
class Outcome:
    """What the repeats of a case came to."""

    name: str
    ratios: list[float]
    ours_us: float
    peer_us: float
    rate: float
    peer_name: str
    goal: str

    @property
    def median(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def measure(case: Case, repeats: int, seconds: float, tick: Callable[[], None]) -> Outcome:
    """Run a case's two sides in turn."""
    ours, peers = alternate(case.name, case.ours, case.peer, repeats=repeats, seconds=seconds, tick=tick)
    return Outcome(
        case.name,
        [peer.cpu_us / own.cpu_us for own, peer in zip(ours, peers, strict=True)],
        statistics.median(sample.cpu_us for sample in ours),
        statistics.median(sample.cpu_us for sample in peers),
        statistics.median(sample.rate for sample in ours),
        case.peer_name,
        case.goal,
    )


def cases(server: BenchServer, peer_pid: int, peer_port: int) -> list[Case]:
    """Give the comparisons."""
    pid, base = server.process.pid, server.url
    basic = "Basic " + base64.b64encode(":".join(server.auth).encode()).decode()
    bearer = {"Authorization": f"Bearer {server.token}"}
    poll = {**bearer, "If-None-Match": server.etag}
    peer = f"https://127.0.0.1:{peer_port}"
    part = {"Range": f"bytes=0-{RANGE_BYTES - 1}"}

    def load(url: str, who: int, headers: dict[str, str]) -> Side:
        return lambda seconds: wrk(url, who, seconds=seconds, connections=32, headers=headers)

    rest = {"Authorization": basic}
    static = load(f"{peer}/device.json", peer_pid, {})
    first = f"{base}/v1/Devices?PageSize=50"
    return [
        Case(
            "unchanged poll (304)",
            lambda seconds: wrk(
                f"{base}/device/v1/desired",
                pid,
                seconds=seconds,
                connections=32,
                headers=poll,
                expect=304,
            ),
            static,
            "nginx, static file",
            "≥ 0.30",
        ),
        Case(
            "GET /v1/Devices/{Sid}",
            load(f"{base}/v1/Devices/{server.sid}", pid, rest),
            static,
            "nginx, static file",
            "≥ 0.18",
        ),
        Case(
            "64 KiB range of a layer",
            load(f"{base}/device/v1/layers/{server.layer}", pid, {**bearer, **part}),
            load(f"{peer}/layer.bin", peer_pid, part),
            "nginx, same range",
            "≥ 0.80",
        ),
        Case(
            f"page of 50 of {DEVICES:,}, deepest",
            load(server.deepest, pid, rest),
            load(first, pid, rest),
            "our first page",
            "cost ≤ 1.2 of the first (ratio ≥ 0.83)",
        ),
    ]  # fmt: skip


async def held(server: BenchServer, count: int) -> dict[str, float]:
    """Hold ``count`` polls, measure the server's memory, then wake them all by one change each."""
    before = resident_bytes(server.process.pid)
    waiters = await fleet.hold(server, count)
    await asyncio.sleep(2)
    per_poll = (resident_bytes(server.process.pid) - before) / count
    wake_s = await fleet.wake(server, waiters)
    return {"polls": count, "bytes_per_poll": per_poll, "wake_all_s": wake_s}


def table(outcomes: list[Outcome], polls: dict[str, float]) -> str:
    """Render the results as Markdown."""
    lines = [
        "| request | ratio to peer (median) | least to greatest | CPU µs | peer's CPU µs | requests/s | peer | goal |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.median:.2f} | {min(one.ratios):.2f} to {max(one.ratios):.2f} | {one.ours_us:.1f} |"
        f" {one.peer_us:.1f} | {one.rate:,.0f} | {one.peer_name} | {one.goal} |"
        for one in outcomes
    ]
    held_text = (
        f"{polls['polls']:,.0f} held polls over TLS: {polls['bytes_per_poll'] / 1000:.1f} kB of server memory each"
        f" (goal ≤ 32 kB); all answered {polls['wake_all_s']:.2f} s after the first of as many changes was asked for."
    )
    machine = (
        f"Python {platform.python_version()}, {platform.machine()}; server and nginx on one core, wrk on the other."
    )
    lines += ["", held_text, "", machine]
    return "\n".join(lines) + "\n"


def beside_nginx(options: argparse.Namespace, root: Path, progress: Progress) -> None:
    """Measure beside nginx, print, write."""
    setup = progress.add_task(f"registering {options.devices:,} devices", total=options.devices)
    with serving(root, LAYER_BYTES, options.devices, lambda n: progress.update(setup, completed=n)) as server:
        port = free_port()
        files = {"device.json": server.device_json, "layer.bin": server.layer_bytes}
        with nginx(root / "nginx", port, files) as peer_pid:
            found = cases(server, peer_pid, port)
            work = progress.add_task("measuring", total=2 * options.repeats * len(found))
            outcomes = [
                measure(case, options.repeats, options.seconds, lambda: progress.advance(work)) for case in found
            ]
        progress.add_task(f"holding {options.held:,} polls", total=None)
        polls = asyncio.run(held(server, options.held))
    show(outcomes)
    write("latest", table(outcomes, polls), {"cases": [vars(one) for one in outcomes], "held": polls})


def beside_goosebit(options: argparse.Namespace, root: Path, progress: Progress) -> None:
    """Measure beside gooseBit, print, write; or say why not."""
    work = progress.add_task("gooseBit", total=4 * options.repeats)
    try:
        scores, text = versus.contend(
            root,
            options.repeats,
            options.seconds,
            lambda: progress.advance(work),
            lambda doing: progress.update(work, description=f"gooseBit: {doing}"),
        )
    except Unavailable as reason:
        print(f"skipped: the comparison with gooseBit, which could not be installed: {reason}")
        return
    write("goosebit", text, {"contests": [vars(one) for one in scores]})


def write(name: str, text: str, raw: dict[str, object]) -> None:
    """Print a table, and write it with its raw numbers."""
    print(text)
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.md").write_text(text)
    (results / f"{name}.json").write_text(json.dumps(raw, indent=2) + "\n")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs of each case (at least 5 for results)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one run")
    parser.add_argument("--devices", type=int, default=DEVICES, help="devices of the server beside nginx")
    parser.add_argument("--million", type=int, default=1_000_000, help="devices of the large fleet")
    parser.add_argument("--wave", type=int, default=100_000, help="devices of the wave that is released there")
    parser.add_argument("--held", type=int, default=HELD)
    parser.add_argument("--only", choices=list(PARTS), help="measure beside this peer alone")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="fleetvisor-bench-") as folder, Progress(console=console) as progress:
        for name in [options.only] if options.only else PARTS:
            (root := Path(folder) / name).mkdir()
            PARTS[name](options, root, progress)


def show(outcomes: list[Outcome]) -> None:
    """Print a table for eyes on standard error."""
    shown = Table("request", "ratio", "spread", "CPU µs", "peer µs", "goal")
    for one in outcomes:
        spread = f"{min(one.ratios):.2f}–{max(one.ratios):.2f}"
        shown.add_row(one.name, f"{one.median:.2f}", spread, f"{one.ours_us:.1f}", f"{one.peer_us:.1f}", one.goal)
    Console(stderr=True).print(shown)


def of_a_million(options: argparse.Namespace, root: Path, progress: Progress) -> None:
    """Measure a large fleet beside a small one, print, write."""
    setup = progress.add_task(f"registering {options.million:,} devices", total=options.million)
    text, raw = million.measure(
        root,
        options.million,
        min(options.wave, options.million),
        options.repeats,
        options.seconds,
        lambda n: progress.update(setup, completed=n),
    )
    write("million", text, raw)


def in_a_crowd(options: argparse.Namespace, root: Path, progress: Progress) -> None:
    """Measure unchanged polls while 200 counts are open, print, write."""
    setup = progress.add_task("polling beside 200 counts", total=crowd.ACCOUNTS * crowd.DEVICES_EACH)
    text, raw = crowd.measure(root, options.repeats, options.seconds, lambda n: progress.update(setup, completed=n))
    write("crowd", text, raw)


PARTS = {"nginx": beside_nginx, "goosebit": beside_goosebit, "million": of_a_million, "crowd": in_a_crowd}

if __name__ == "__main__":
    sys.exit(main())
