"""Plays the surroundings of the core in tests: each command is answered by a line of the script."""

import hashlib

import msgspec

from fleetvisor.agent.commands import (
    Boot,
    Checked,
    Command,
    Done,
    Event,
    Fetch,
    Fetched,
    FetchManifest,
    Keep,
    Poll,
    Polled,
    Program,
    Reboot,
    Taken,
    Tell,
    Verify,
)
from fleetvisor.agent.core import Core
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.state import (
    Armed,
    Booted,
    Confirmed,
    Image,
    Marked,
    Record,
    Started,
    State,
    Told,
    apply,
)
from fleetvisor.agent.talk import Options
from fleetvisor.protocol.manifest import LayerReference, Policies, encode
from fleetvisor.protocol.native import Desired, DesiredApp, DesiredLayer, DesiredLogging, Policy, UpdateReport
from fleetvisor.sim.loop import SeededEntropy

GEOMETRY = Geometry(sector_bytes=64, unit_bytes=8, journal_bytes=512, internal_bytes=512, external_bytes=256)
OPTIONS = Options(block_bytes=128)
FRESH = apply(State(journal="0" * 32), Booted())


def firmware(name: str, size: int = 300) -> bytes:
    return (hashlib.sha256(name.encode()).digest() * (size // 32 + 1))[:size]


def layer_of(name: str, size: int, region: int) -> DesiredLayer:
    data = firmware(name, size)
    return DesiredLayer(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=size,
        measurement=hashlib.sha256(data.ljust(region, b"\xff")).hexdigest(),
        region="internal",
        region_start=0,
        region_size=region,
    )


def app(name: str, update: int | None, size: int = 300, region: int = 512) -> DesiredApp:
    digest = manifest(name, size, region)
    layers = (layer_of(name, size, region),)
    return DesiredApp(sid="KA" + digest[:32], manifest=digest, update=update, layers=layers)


def manifest_bytes(name: str, size: int = 300, region: int = 512) -> bytes:
    layer = layer_of(name, size, region)
    reference = LayerReference(
        digest=layer.sha256, measurement=layer.measurement, region="internal", region_start=0, region_size=region
    )
    return encode([reference], Policies())


#: The manifests that were made, by hash: what a server answers.
MANIFESTS: dict[str, bytes] = {}


def manifest(name: str, size: int = 300, region: int = 512) -> str:
    raw = manifest_bytes(name, size, region)
    digest = hashlib.sha256(raw).hexdigest()
    MANIFESTS[digest] = raw
    return digest


def desired(
    target: DesiredApp | None, *, restart: int = 0, politeness_s: int = 0, poll_interval_s: int = 60, logs: bool = False
) -> Desired:
    return Desired(
        app=target,
        logging=DesiredLogging(enabled=logs, until=None),
        restart=restart,
        poll_interval_s=poll_interval_s,
        policy=Policy(politeness_s=politeness_s),
    )


def running(name: str) -> State:
    """Give the state of a device that runs ``name``, its update 1, and has told so."""
    state = FRESH
    records: list[Record] = [
        Started(1, Image(manifest(name), "KA" + manifest(name)[:32])),
        Marked(8),
        Armed(),
        Booted(),
        Confirmed(),
        Told(),
        Booted(),
    ]
    for record in records:
        state = apply(state, record)
    return state


class Play:
    """A core, and what it asked so far. ``kept`` are the records, ``told`` the reports' updates."""

    def __init__(self, state: State = FRESH, options: Options = OPTIONS, *, manifests: bool = True) -> None:
        self.manifests = manifests
        self.core = Core(state, GEOMETRY, options, SeededEntropy(1))
        self.now_s = 1000.0
        self.kept: list[Record] = []
        self.told: list[UpdateReport | None] = []
        self.reports: list[Tell] = []
        self.command: Command = Reboot("not started")
        self._step(Boot())

    def _step(self, event: Event) -> None:
        """Go on, answering by itself what every script answers the same: records are kept, manifests are there."""
        self.command = self.core.step(event, self.now_s)
        while True:
            match self.command:
                case Keep(record):
                    self.kept.append(record)
                    self.command = self.core.step(Done(), self.now_s)
                case FetchManifest(digest) if self.manifests:
                    self.command = self.core.step(Fetched(MANIFESTS[digest]), self.now_s)
                case _:
                    return

    def answer(self, event: Event, *, after_s: float = 0.1) -> Command:
        self.now_s += after_s
        if isinstance(self.command, Tell):
            self.told.append(self.command.report.update)
            self.reports.append(self.command)
        self._step(event)
        return self.command

    def boot_report(self) -> Command:
        """Take the report of a boot, up to the first poll."""
        assert isinstance(self.command, Tell), self.command
        return self.answer(Taken(taken=True))

    def polled(self, state: Desired, etag: str = '"1"', **timing: float) -> Command:
        assert isinstance(self.command, Poll), self.command
        return self.answer(Polled(state, etag), **timing)

    def download(self, name: str, size: int = 300) -> None:
        """Answer everything of a download, up to and with its verification."""
        for _ in range(100):
            match self.command:
                case Tell():
                    self.answer(Taken(taken=True))
                case Fetch(_, start, end):
                    self.answer(Fetched(firmware(name, size)[start:end]))
                case Program():
                    self.answer(Done())
                case Verify():
                    self.answer(Checked(good=True))
                    return
                case other:
                    raise AssertionError(other)

    def states(self) -> list[str]:
        return [str(update.state) for update in self.told if update is not None]


def same(left: msgspec.Struct, right: msgspec.Struct) -> bool:
    return msgspec.to_builtins(left) == msgspec.to_builtins(right)
