"""A world from a seed: the real server, a few boards, bad weather, power cuts, and an operator who changes his mind.

First a storm of some virtual hours, in which everything may happen; then calm, in which every board must arrive at
its last target. The promises of ``checks`` are held against flash and rows whenever a board is off and after every
act. The same seed gives the same world, to the byte; ``Result.trace`` is the proof.

Deliberately no sockets and no threads (see ``loop``); one account.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import structlog

from fleetvisor.agent.flash import Moment
from fleetvisor.blobs.store import Blobs
from fleetvisor.db.database import Database
from fleetvisor.db.sqlite import memory
from fleetvisor.ground.limits import Limits
from fleetvisor.pki.seal import KEY_BYTES, Seal
from fleetvisor.server.background import run_jobs
from fleetvisor.server.build import World as Server
from fleetvisor.server.build import build
from fleetvisor.sim.board import MOMENTS, SMALL, Board
from fleetvisor.sim.checks import History, Violated, check_arrived, check_counts, check_flash
from fleetvisor.sim.loop import SeededEntropy, VirtualClock, run_virtual
from fleetvisor.sim.network import CALM, Link, Network, Weather
from fleetvisor.sim.operator import Firmware, Operator, Refused

T = TypeVar("T")
STORM: Final = Weather(drop=0.08, repeat=0.08, truncate=0.05, stall=0.02)
_ARRIVAL_S: Final = 4 * 3600.0
_LOOK_S: Final = 120.0
_JOB_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a world is made of; the rest follows from the seed."""

    seed: int
    boards: int = 3
    storm_s: float = 4200.0
    weather: Weather = STORM
    operations_between_cuts: float = 60.0
    outage_every_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a world came to. ``operations`` counts the flash operations of each board."""

    trace: str
    story: tuple[str, ...]
    boots: int
    operations: tuple[int, ...]


class World:
    """The server, the network, the operator and the boards, while they run."""

    def __init__(self, seed: int, db: Database, network: Network, operator: Operator, clock: VirtualClock) -> None:
        """Take what ``open_world`` made."""
        self.seed = seed
        self.db = db
        self.network = network
        self.operator = operator
        self.clock = clock
        self.boards: list[Board] = []
        self.bad: set[str] = set()
        self.story: list[str] = []
        self.chance = SeededEntropy(seed, "operator").random

    def note(self, text: str) -> None:
        """Write down what happened, for whoever replays this world."""
        self.story.append(f"{self.clock.monotonic():9.1f} s  {text}")

    async def add_board(self, name: str) -> Board:
        """Register a device, and make its board, which is off."""
        sid, token = await self.operator.register(name)
        device = await self.operator.device(sid)
        board = Board(
            name=name,
            history=History(sid, device["account_sid"]),
            transport=Link(self.network, token, SeededEntropy(self.seed, name, "link")),
            clock=self.clock,
            entropy=SeededEntropy(self.seed, name),
            self_test=lambda manifest: manifest not in self.bad,
        )
        self.boards.append(board)
        return board

    async def look(self, board: Board, ended: str) -> None:
        """Hold one board, which is off, and its rows against the promises."""
        self.note(f"{board.name} {ended}")
        try:
            if not board.removed:
                await board.history.look(self.db)
                check_flash(board.flash, SMALL, board.history, self.operator)
        except Violated as fault:
            fault.add_note(f"at {board.name}, after {board.operations} operations on its flash")
            raise

    async def look_at_rows(self) -> None:
        """Hold the server's rows of every device against the promises."""
        for board in self.boards:
            if not board.removed:
                await board.history.look(self.db)
        await check_counts(self.db)
        if self.network.faults:
            raise Violated(f"the server raised {self.network.faults[0]!r}") from self.network.faults[0]

    async def arrive(self, firmware: Firmware) -> None:
        """Target every board, and again after each failure, until all have arrived. Raises ``Violated``."""
        missing = [board for board in self.boards if not board.removed]
        for board in missing:
            await self.operator.target(board.sid, firmware)
        deadline_s = self.clock.monotonic() + _ARRIVAL_S
        while missing:
            await self.clock.sleep(_LOOK_S)
            await self.look_at_rows()
            fault: Violated | None = None
            for board in tuple(missing):
                try:
                    await self._look_whether_arrived(board, firmware)
                    missing.remove(board)
                except Violated as found:
                    fault = found
            if fault is not None and self.clock.monotonic() > deadline_s:
                raise fault

    async def _look_whether_arrived(self, board: Board, firmware: Firmware) -> None:
        device = await self.operator.device(board.sid)
        if device["app"]["update_status"] == "error":
            self.note(f"{board.name} failed with {device['app']['update_error_code']}, and is targeted again")
            await self.operator.target(board.sid, firmware)
        check_arrived(device, board.state, firmware)
        self.note(f"{board.name} arrived at {firmware.name}")

    async def during(self, act: Callable[["World"], Coroutine[Any, Any, None]]) -> None:
        """Keep the boards on while ``act`` goes on; whatever breaks a promise ends both."""
        try:
            async with asyncio.TaskGroup() as tasks:
                lives = [tasks.create_task(board.live(self.look)) for board in self.boards]
                await act(self)
                for life in lives:
                    life.cancel()
        except BaseExceptionGroup as faults:
            raise faults.exceptions[0] from faults

    @property
    def result(self) -> Result:
        """Return what the world came to so far."""
        boots = sum(board.boots for board in self.boards)
        operations = tuple(board.operations for board in self.boards)
        return Result(self.network.trace, tuple(self.story), boots, operations)


async def storm(world: World, recipe: Recipe) -> None:
    """Let the operator act by chance while the weather is bad."""
    world.network.weather = recipe.weather
    for board in world.boards:
        if recipe.operations_between_cuts:
            board.expect_trouble(recipe.operations_between_cuts, recipe.outage_every_s)
    end_s = world.clock.monotonic() + recipe.storm_s
    while world.clock.monotonic() < end_s:
        await world.clock.sleep(world.chance.expovariate(1 / 180))
        await act_once(world)
        await world.look_at_rows()
    world.network.weather = CALM
    for board in world.boards:
        board.expect_calm()
    world.note("calm")


async def act_once(world: World) -> None:
    """Let the operator do one thing. What the API refuses for a good reason is part of the game."""
    chance, operator = world.chance, world.operator
    board = chance.choice([board for board in world.boards if not board.removed])
    apps = operator.available
    acts = {"target": 12, "upload": 4, "clear": 1, "cancel": 2, "restart": 2, "log": 1, "delete": 1, "remove": 0.3}
    act = "upload" if not apps else chance.choices(list(acts), list(acts.values()))[0]
    app = chance.choice(apps) if apps else None
    world.note(f"operator: {act} {board.name} {app.name if app else ''}")
    try:
        match act:
            case "upload":
                await _upload(world)
            case "target" if app is not None:
                for each in world.boards if chance.random() < 0.2 else [board]:
                    if not each.removed:
                        await operator.target(each.sid, app)
            case "clear":
                await operator.change(board.sid, TargetApp="")
            case "cancel":
                await operator.change(board.sid, CancelUpdate="true")
            case "restart":
                await operator.change(board.sid, RestartApp="true")
            case "log":
                await operator.change(board.sid, LoggingEnabled=chance.choice(["true", "false"]))
            case "delete" if app is not None:
                await operator.delete(app)
            case _ if len([each for each in world.boards if not each.removed]) > 1:
                board.removed = True
                await operator.call("DELETE", f"/v1/Devices/{board.sid}")
            case _:
                pass
    except Refused as refusal:
        world.note(f"refused: {refusal}")
        if refusal.status not in {404, 409}:
            raise


async def _upload(world: World) -> None:
    name = f"v{len(world.operator.uploaded) + 1}"
    firmware = await world.operator.upload(name, politeness_s=world.chance.choice([0, 0, 10, 60]))
    if world.chance.random() < 0.25:
        world.bad.add(firmware.manifest)
        world.note(f"{name} will fail its self-test")


def run_world(recipe: Recipe) -> Result:
    """Run a world to its end. Raises ``Violated``, with the story and how to replay it as notes."""

    async def act(world: World) -> None:
        await storm(world, recipe)
        await world.arrive(await world.operator.upload("last"))

    names = [f"board-{number}" for number in range(recipe.boards)]
    return _run(recipe.seed, {name: {} for name in names}, act, f"--seed {recipe.seed}")


def run_cuts(seed: int, cut: tuple[int, Moment] | None = None) -> Result:
    """Bring boards from nothing to v1, v2 and v1 again, and cut the power of each at another operation on the way.

    A first world counts the operations; a second has one board for each operation and each moment, or the one that
    ``cut`` names. Raises ``Violated`` as ``run_world`` does.
    """

    async def act(world: World) -> None:
        first, second = await world.operator.upload("v1"), await world.operator.upload("v2")
        for firmware in (first, second, first):
            await world.arrive(firmware)

    cuts: list[tuple[int, Moment]] = [] if cut is None else [cut]
    if cut is None:
        (operations,) = _run(seed, {"uncut": {}}, act, f"--seed {seed} --cut -1").operations
        cuts = [(operation, moment) for operation in range(operations) for moment in MOMENTS]
    plans: dict[str, dict[int, Moment]] = {f"cut-{place}-{moment}": {place: moment} for place, moment in cuts}
    return _run(seed, plans, act, f"--seed {seed} --cut K --moment M, where the name of the board is cut-K-M")


def _run(
    seed: int, plans: dict[str, dict[int, Moment]], act: Callable[[World], Coroutine[Any, Any, None]], replay: str
) -> Result:
    async def main() -> Result:
        async with open_world(seed) as world:
            for name, cuts in plans.items():
                (await world.add_board(name)).cuts = dict(cuts)
            try:
                await world.during(act)
            except Exception as fault:
                fault.add_note("\n".join(world.story[-60:]))
                fault.add_note(f"replay: python -m fleetvisor.sim {replay}")
                raise
            return world.result

    return run_virtual(main())


@asynccontextmanager
async def open_world(seed: int) -> AsyncGenerator[World]:
    """Build the server on virtual time, and an operator for its first account; stop it at the end."""
    clock, entropy = VirtualClock(), SeededEntropy(seed, "server")
    with TemporaryDirectory(prefix="fleetvisor-sim-") as folder:
        server = make_server(memory(), Path(folder), clock, entropy, entropy.token(KEY_BYTES))
        account = await server.accounts.ensure_first()
        network = Network(server.app, clock)
        operator = Operator(network, account.account_sid, account.auth_token, SeededEntropy(seed, "bundles"))
        jobs = tuple(replace(job, period_s=max(job.period_s, _JOB_S)) for job in server.jobs)
        background = asyncio.get_running_loop().create_task(run_jobs(jobs, clock))
        try:
            yield World(seed, server.db, network, operator, clock)
        finally:
            background.cancel()
            server.begin_shutdown()
            await clock.sleep(1)
            await server.close()


def make_server(
    db: Database, folder: Path, clock: VirtualClock, entropy: SeededEntropy, key: bytes, limits: Limits | None = None
) -> Server:
    """Build a server on virtual time; its blobs and uploads are in ``folder``, its secrets sealed with ``key``."""
    return build(
        db=db,
        blobs=Blobs(folder / "blobs", offload=_at_once, fsync=_no_fsync),
        seal=Seal([key], entropy),
        limits=limits or Limits(),
        clock=clock,
        entropy=entropy,
        offload=_at_once,
        spool=folder,
        base_url="https://sim.invalid",
        log=structlog.wrap_logger(structlog.PrintLogger(StringIO()), processors=[_drop]),
    )


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def _drop(*_: object) -> str:
    """Write no log: what a node raises is kept by the network."""
    raise structlog.DropEvent


def _no_fsync(_: int) -> None:
    """Save the disk's time: a simulated world has no power of its own to lose."""
