"""A world of rollouts from a seed: two nodes that die at their writes, a fleet in bad weather, and busy operators.

Both nodes serve requests and move rollouts, on one database, as ``--database`` lets them; a node that died comes back
after a while. First a storm, in which the operators do whatever they may; then calm, in which everything must come to
its end. The promises of ``rollout_checks`` are held against the rows after every act. The same seed gives the same
world, to the byte.

Deliberately no flash (see ``world`` for that) and one account.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fleetvisor.agent.wire import Lost
from fleetvisor.db.database import Database
from fleetvisor.db.sqlite import memory
from fleetvisor.ground.limits import Limits
from fleetvisor.pki.seal import KEY_BYTES
from fleetvisor.server.background import Job, Tail, run_jobs
from fleetvisor.server.build import World as Server
from fleetvisor.sim import rollout_acts as acts
from fleetvisor.sim.checks import Violated
from fleetvisor.sim.loop import SeededEntropy, VirtualClock, run_virtual
from fleetvisor.sim.network import CALM, Down, Link, Network, Weather
from fleetvisor.sim.operator import Operator, Refused
from fleetvisor.sim.puppet import GOOD, DdiPuppet, Habits, NativePuppet, Puppet
from fleetvisor.sim.rollout_checks import Ledger
from fleetvisor.sim.storage import NodeDied, Storage
from fleetvisor.sim.world import make_server

Message = MutableMapping[str, Any]
STORM: Final = Weather(drop=0.06, repeat=0.06, truncate=0.03, stall=0.02)
LIMITS: Final = Limits(report_timeout_s=900, cancel_timeout_s=240, rollout_chunk=5)
PERIODS_S: Final = {"rollouts": 6.0, "overdue": 20.0, "presence": 15.0}
_JOB_S: Final = 60.0
_TAIL_S: Final = 4.0
_TURN_S: Final = 45.0
_DOWN_S: Final = 40.0
_END_S: Final = 6 * 3600.0
_LOOK_S: Final = 60.0
_QUIET_S: Final = 20 * _TURN_S


@dataclass(frozen=True, slots=True)
class RolloutRecipe:
    """What a world of rollouts is made of; the rest follows from the seed.

    ``ddi`` is the share of devices that speak DDI, ``acts`` how many things the operators do;
    ``writes_between_deaths`` is of each node, 0 for nodes that live.
    """

    seed: int
    devices: int = 12
    ddi: float = 0.3
    acts: int = 30
    weather: Weather = STORM
    writes_between_deaths: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a world of rollouts came to.

    ``deaths`` of nodes; how many rollouts ended in each state, how many devices of theirs are in each, and how many
    decisions there were by code.
    """

    trace: str
    story: tuple[str, ...]
    deaths: int
    rollouts: dict[str, int]
    devices: dict[str, int]
    decisions: dict[str, int]


class Node:
    """One server on the shared database, until it dies."""

    def __init__(self, server: Server, storage: Storage) -> None:
        """Take what runs."""
        self.server = server
        self.storage = storage

    async def answer(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer a request, unless the node dies on the way. Raises ``Down``."""
        statuses: list[int] = []

        async def watched(message: Message) -> None:
            statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])
            await send(message)

        try:
            await self.server.app(scope, receive, watched)
        except NodeDied as death:
            raise Down("the node died") from death
        if self.storage.dead.is_set():
            raise Down("the node died")
        if statuses and statuses[0] >= 500:
            raise Violated(f"{scope['method']} {scope['path']} was answered with {statuses[0]}")


class RolloutWorld:
    """The nodes, the network, the operators and the fleet, while they run."""

    def __init__(self, recipe: RolloutRecipe, db: Database, folder: Path, clock: VirtualClock) -> None:
        """Prepare a world that has no node yet."""
        self.recipe = recipe
        self.db = db
        self.clock = clock
        self.chance = SeededEntropy(recipe.seed, "operators").random
        self.network = Network(self._answer, clock)
        self.operator: Operator
        self.puppets: dict[str, Puppet] = {}
        self.ledger = Ledger(db)
        self.story: list[str] = []
        self.deaths = 0
        self.stormy = True
        self._folder = folder
        self._key = SeededEntropy(recipe.seed, "key").token(KEY_BYTES)
        self._nodes: dict[int, Node] = {}
        self._lives = 0
        self._route = SeededEntropy(recipe.seed, "route").random

    def note(self, text: str) -> None:
        """Write down what happened, for whoever replays this world."""
        self.story.append(f"{self.clock.monotonic():9.1f} s  {text}")

    async def _answer(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if not self._nodes:
            raise Down("no node is up")
        await self._route.choice(list(self._nodes.values())).answer(scope, receive, send)

    async def keep_node(self, place: int) -> None:
        """Keep a node running in ``place``: build it anew each time it has died."""
        while True:
            await self._live(place)
            self.deaths += 1
            self.note(f"node {place} died")
            await self.clock.sleep(self._route.random() * _DOWN_S)

    async def _live(self, place: int) -> None:
        self._lives += 1
        entropy = SeededEntropy(self.recipe.seed, "node", self._lives)
        storage = Storage(self.db, self.clock, entropy)
        server = make_server(storage, self._folder, self.clock, entropy, self._key, LIMITS)
        tail = Tail(db=storage, bus=server.bus, clock=self.clock)
        await tail.read()
        if self.deaths:
            self._doom(storage)
        jobs = [Job(job.name, PERIODS_S.get(job.name, _JOB_S), job.run) for job in server.jobs]
        jobs += [Job("tail", _TAIL_S, tail.read), Job("tail-watch", _TAIL_S, tail.watch)]
        self._nodes[place] = Node(server, storage)
        watched = tuple(replace(job, run=self._watch(job, storage)) for job in jobs)
        background = asyncio.create_task(run_jobs(watched, self.clock))
        try:
            await storage.dead.wait()
        finally:
            del self._nodes[place]
            background.cancel()
            server.begin_shutdown()

    def _watch(self, job: Job, storage: Storage) -> Callable[[], Awaitable[None]]:
        """Return the job; it may only fail because its node is dead, and does nothing then."""

        async def run() -> None:
            try:
                await job.run()
            except Exception as fault:  # noqa: BLE001  (kept for the checks, with the requests' own)
                if not storage.dead.is_set():
                    self.network.faults.append(fault)
            if storage.dead.is_set():
                await asyncio.Event().wait()

        return run

    def doom(self) -> None:
        """Let the nodes that run die some time."""
        for place in sorted(self._nodes):
            self._doom(self._nodes[place].storage)

    def _doom(self, storage: Storage) -> None:
        between = self.recipe.writes_between_deaths
        if self.stormy and between:
            storage.die_at(1 + int(self._route.expovariate(1 / between)), self._route.choice(["before", "after"]))

    async def settle(self) -> None:
        """Wait for both nodes, and take the first account from one."""
        while len(self._nodes) < 2:
            await self.clock.sleep(0.1)
        account = await self._nodes[1].server.accounts.ensure_first()
        entropy = SeededEntropy(self.recipe.seed, "bundles")
        self.operator = Operator(self.network, account.account_sid, account.auth_token, entropy)

    async def add_device(self, running: str | None) -> None:
        """Register a device and switch it on. Raises ``Lost``, ``Refused``."""
        number = len(self.puppets)
        form = {"UniqueName": f"d{number}", "Labels": f"ring={self.chance.randrange(3)}"}
        made = await self.operator.call("POST", "/v1/Devices", form)
        entropy = SeededEntropy(self.recipe.seed, "device", number)
        sid, token = made["sid"], made["device_token"]
        way = Link(self.network, token, entropy)
        speaks_ddi = self.chance.random() < self.recipe.ddi
        puppet: Puppet = DdiPuppet(sid, way, entropy, token) if speaks_ddi else NativePuppet(sid, way, entropy, running)
        puppet.habits = self.habits if self.stormy else GOOD
        self.puppets[puppet.sid] = puppet
        self.note(f"d{number} is {puppet.sid}")

    @property
    def habits(self) -> Habits:
        """Return what the devices of this world are like in the storm."""
        chance = SeededEntropy(self.recipe.seed, "habits").random
        fails = chance.choice([0.0, 0.05, 0.2, 0.5])
        dawdles, stops, reverts = chance.random() * 0.7, chance.random() * 0.3, chance.random() * 0.1
        return Habits(fails, dawdles, stops, reverts, silence_s=chance.choice([300.0, 600.0, 4000.0]))

    async def live(self, puppet: Puppet) -> None:
        """Let a device take turns until it is removed."""
        chance = SeededEntropy(self.recipe.seed, "turns", puppet.sid).random
        while not puppet.removed:
            await self.clock.sleep(chance.expovariate(1 / _TURN_S))
            try:
                awake_s = await puppet.turn() + self.clock.monotonic()
            except Lost:
                continue
            while self.stormy and self.clock.monotonic() < awake_s:
                await self.clock.sleep(_TURN_S)

    async def look(self) -> None:
        """Hold the rows against the promises. Raises ``Violated``."""
        await self.ledger.look(self.clock.now())
        if self.network.faults:
            raise Violated(f"a node raised {self.network.faults[0]!r}") from self.network.faults[0]


async def _storm(world: RolloutWorld, tasks: asyncio.TaskGroup) -> None:
    world.network.weather = world.recipe.weather
    alive: set[str] = set()
    for _ in range(world.recipe.acts):
        await world.clock.sleep(world.chance.expovariate(1 / 60))
        try:
            await acts.act_once(world)
        except Refused as refusal:
            world.note(f"refused: {refusal}")
            if refusal.status not in {400, 404, 409}:
                raise
        except Lost as loss:
            world.note(f"lost: {loss}")
        for puppet in world.puppets.values():
            if puppet.sid not in alive:
                alive.add(puppet.sid)
                tasks.create_task(world.live(puppet))
        await world.look()


async def _calm(world: RolloutWorld) -> None:
    """Let everything come to its end. Raises ``Violated`` when it does not."""
    world.stormy = False
    world.network.weather = CALM
    world.note("calm")
    for puppet in world.puppets.values():
        puppet.habits = GOOD
    end_s = world.clock.monotonic() + _END_S
    while world.clock.monotonic() < end_s:
        await world.clock.sleep(_LOOK_S)
        try:
            busy = await acts.bring_to_an_end(world)
        except Lost:
            continue
        await world.look()
        if not busy:
            await world.clock.sleep(_QUIET_S)
            await world.look()
            await world.ledger.look_at_the_end()
            return
    raise Violated(f"the rollouts did not come to an end: {await world.ledger.unfinished()}")


def run_rollouts(recipe: RolloutRecipe) -> Outcome:
    """Run a world of rollouts to its end. Raises ``Violated``, with the story and how to replay it as notes."""
    return run_virtual(_run(recipe))


async def _run(recipe: RolloutRecipe) -> Outcome:
    async with _open(recipe) as world:
        try:
            await _play(world)
        except Exception as fault:
            fault.add_note("\n".join(world.story[-80:]))
            fault.add_note(f"replay: python -m fleetvisor.sim --rollouts --seed {recipe.seed}")
            raise
        counts = await world.ledger.tally()
        return Outcome(world.network.trace, tuple(world.story), world.deaths, *counts)


async def _play(world: RolloutWorld) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.keep_node(1))
            tasks.create_task(world.keep_node(2))
            await world.settle()
            await acts.begin(world, world.recipe.devices)
            world.doom()
            await _storm(world, tasks)
            await _calm(world)
            raise _Done
    except* _Done:
        pass
    except* Exception as faults:
        raise faults.exceptions[0] from faults


class _Done(Exception):
    """The world is over; its tasks may go."""


@asynccontextmanager
async def _open(recipe: RolloutRecipe) -> AsyncGenerator[RolloutWorld]:
    with TemporaryDirectory(prefix="fleetvisor-sim-") as folder:
        db = memory()
        try:
            yield RolloutWorld(recipe, db, Path(folder), VirtualClock())
        finally:
            await db.close()
