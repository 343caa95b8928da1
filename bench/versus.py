"""Fleetvisor beside gooseBit: the unchanged DDI poll and the whole list of devices, as ratios of answers per second.

Both servers run on one core, over TLS with kept connections, on SQLite, with as many devices; the load comes from the
other core, in turns. Deliberately no set-up: ``bench/goosebit`` and ``bench/server`` have it.
"""

import contextlib
import http.client
import json
import os
import platform
import ssl
import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import goosebit
from bench.goosebit import GooseBit
from bench.machine import LOAD_CORE, Sample, cpu_seconds, wrk
from bench.rounds import Side, alternate
from bench.server import BenchServer, serving

DEVICES = 10_000
PAGE = 1000
CONNECTIONS = 32
LAYER_BYTES = 4096
LIST_S = 1.0

Step = Callable[[dict[str, Any], int], tuple[int, str]]
"""Read a page, and how many devices came before it: how many it has, and the next path, empty after the last."""


@dataclass(frozen=True)
class Contest:
    """One comparison: what each side is asked, and how many times gooseBit's rate is aimed at."""

    name: str
    ours: Side
    peer: Side
    times: float


@dataclass(frozen=True)
class Score:
    """What the rounds of a contest came to: rates are answers (or whole lists) per second."""

    name: str
    ratios: list[float]
    cpu_ratios: list[float]
    rate: float
    peer_rate: float
    times: float

    @property
    def median(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


@contextlib.contextmanager
def on_load_core() -> Iterator[None]:
    """Let this process run on the core that the load comes from."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def lists(url: str, ca_file: str, pid: int, authorization: str, first: str, step: Step) -> Side:
    """Walk the list of devices over one connection; the time is that from each request to its answer's last byte."""
    where = urlsplit(url)

    def once(connection: http.client.HTTPSConnection) -> float:
        seen, path, spent = 0, first, 0.0
        while path:
            started = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": authorization})
            with connection.getresponse() as answer:
                body = answer.read()
            spent += time.perf_counter() - started
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")
            count, path = step(json.loads(body), seen)
            seen += count
        if seen != DEVICES:
            raise RuntimeError(f"{url}{first}: {seen} devices instead of {DEVICES}")
        return spent

    def side(seconds: float) -> Sample:
        context = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(where.hostname or "", where.port, context=context, timeout=60)
        with on_load_core(), contextlib.closing(connection):
            connection.connect()
            before, spent, walks = cpu_seconds(pid), 0.0, 0
            while spent < min(seconds, LIST_S):
                spent += once(connection)
                walks += 1
            return Sample(walks, spent, cpu_seconds(pid) - before, 0)

    return side


def _our_page(page: dict[str, Any], _seen: int) -> tuple[int, str]:
    following = urlsplit(page["meta"]["next_page_url"] or "")
    return len(page["devices"]), f"{following.path}?{following.query}" if following.path else ""


def _peer_path(start: int) -> str:
    return f"/ui/bff/devices?start={start}&length={PAGE}"


def _peer_page(page: dict[str, Any], seen: int) -> tuple[int, str]:
    seen += len(page["data"])
    return len(page["data"]), _peer_path(seen) if seen < page["recordsTotal"] else ""


def _whole(page: dict[str, Any], _seen: int) -> tuple[int, str]:
    return len(page["devices"]), ""


def poll_contest(server: BenchServer, peer: GooseBit) -> Contest:
    """Compare the poll of a device that has nothing to do: 304 from us, 200 and the same body again from gooseBit."""
    sid, token = (server.fleet or [])[DEVICES // 2]
    path, proof = f"/DEFAULT/controller/v1/{sid}", f"TargetToken {token}"
    _, headers = server.call(path, headers={"Authorization": proof})
    tag = {name.lower(): value for name, value in headers.items()}["etag"]
    ours = {"Authorization": proof, "If-None-Match": tag}
    theirs = {"Authorization": f"TargetToken {peer.device_token}", "If-None-Match": tag}

    def load(pid: int, url: str, headers: dict[str, str], expect: int) -> Side:
        return lambda seconds: wrk(
            url, pid, seconds=seconds, connections=CONNECTIONS, headers=headers, expect=expect
        )  # fmt: skip

    return Contest(
        "unchanged DDI poll",
        load(server.process.pid, server.url + path, ours, 304),
        load(peer.pid, f"{peer.url}/DEFAULT/controller/v1/{peer.device}", theirs, 200),
        80,
    )


def list_contest(server: BenchServer, peer: GooseBit) -> Contest:
    """Compare the list in pages of 1000, walked to the end."""
    basic = "Basic " + b64encode(":".join(server.auth).encode()).decode()
    pid, first = server.process.pid, f"/v1/Devices?PageSize={PAGE}"
    return Contest(
        f"list of {DEVICES:,} devices, in pages of {PAGE}",
        lists(server.url, server.ca_file, pid, basic, first, _our_page),
        lists(peer.url, peer.ca_file, peer.pid, peer.bearer, _peer_path(0), _peer_page),
        50,
    )


def score(contest: Contest, repeats: int, seconds: float, tick: Callable[[], None]) -> Score:
    """Run a contest's rounds."""
    ours, peers = alternate(contest.name, contest.ours, contest.peer, repeats=repeats, seconds=seconds, tick=tick)
    pairs = list(zip(ours, peers, strict=True))
    return Score(
        contest.name,
        [own.rate / peer.rate for own, peer in pairs],
        [peer.cpu_us / max(own.cpu_us, 0.1) for own, peer in pairs],
        statistics.median(own.rate for own in ours),
        statistics.median(peer.rate for peer in peers),
        contest.times,
    )


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def table(scores: list[Score], version: str, whole_s: float) -> str:
    """Render the results as Markdown, with what is compared."""
    lines = [
        "| per second | Fleetvisor | gooseBit | times (median) | least to greatest | times by CPU | goal | met |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {one.name} | {_figure(one.rate)} | {_figure(one.peer_rate)} | {one.median:.0f} |"
        f" {min(one.ratios):.0f} to {max(one.ratios):.0f} | {statistics.median(one.cpu_ratios):.0f} |"
        f" ≥ {one.times:.0f} | {'yes' if one.median >= one.times else 'no'} |"
        for one in scores
    ]
    return (
        "\n".join(lines)
        + f"""

Both servers: one process on the same core, in turns; TLS with kept connections; SQLite with {DEVICES:,} devices, none
of which has anything to do; each poll proves itself by a device token. No access log. wrk, and the client of the lists,
on the other core.

- Poll: `GET /DEFAULT/controller/v1/{{id}}` with `TargetToken` and `If-None-Match`, one device, {CONNECTIONS}
  connections. We answer 304 and note the time in memory, written behind once a second. gooseBit {version} has no
  conditional answer: it answers 200, after it read the device, wrote when and from where it polled (a commit), read the
  device again for its token (`device_auth.mode: strict`), looked for a rollout, and counted devices that are updating.
- List: ours is `GET /v1/Devices?PageSize={PAGE}`, walked by `next_page_url`; gooseBit's is
  `GET /ui/bff/devices?start=…&length={PAGE}`, which its pages ask for, walked by `start`, once unmeasured so that its
  cache of devices is full. It looks for the rollout of each device. Its `GET /api/v1/devices` has no pages: all
  {DEVICES:,} in one answer took {whole_s:.1f} s.

gooseBit runs as its documents say (uvicorn, one process, its defaults); its devices were written into its database.
Python {platform.python_version()}, {platform.machine()}.
"""
    )


def contend(
    root: Path, repeats: int, seconds: float, tick: Callable[[], None], say: Callable[[str], None]
) -> tuple[list[Score], str]:
    """Set both servers up and run all rounds; give scores and table. Raise ``Unavailable`` without gooseBit."""
    say("installing gooseBit")
    python = goosebit.install()
    say(f"making {DEVICES:,} devices twice")
    ours = serving(root / "fleetvisor", LAYER_BYTES, DEVICES, lambda _: None)
    (root / "fleetvisor").mkdir(parents=True)
    with ours as server, goosebit.running(python, root / "goosebit", DEVICES) as peer:
        polls, walks = poll_contest(server, peer), list_contest(server, peer)
        scores = [score(polls, repeats, seconds, tick)]
        say("filling gooseBit's cache")
        walks.peer(LIST_S)
        walks.ours(LIST_S)
        scores.append(score(walks, repeats, seconds, tick))
        whole = lists(peer.url, peer.ca_file, peer.pid, peer.bearer, "/api/v1/devices", _whole)(LIST_S)
        return scores, table(scores, peer.version, whole.seconds / whole.requests)
