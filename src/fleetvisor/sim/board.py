"""A simulated board: flash whose power fails where it is told to, and the agent that comes up again each time.

Whenever the board is off its flash is looked at, by whoever made it. Deliberately no server and no operator.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fleetvisor.agent.flash import Moment, Operation, PowerCut
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.runner import Behaviour, Device, memory_flash
from fleetvisor.agent.state import State
from fleetvisor.agent.talk import Options
from fleetvisor.agent.wire import Transport
from fleetvisor.sim.checks import History, read_state
from fleetvisor.sim.loop import SeededEntropy, VirtualClock

SMALL: Final = Geometry(sector_bytes=256, unit_bytes=8, journal_bytes=512, internal_bytes=1024, external_bytes=512)
OPTIONS: Final = Options(block_bytes=512)
MOMENTS: Final[tuple[Moment, ...]] = ("before", "torn", "after")
_CUTS: Final = 200


class Board:
    """One device. ``cuts`` says at which operations on its flash, counted from 0, the power fails, and when."""

    def __init__(
        self,
        *,
        name: str,
        history: History,
        transport: Transport,
        clock: VirtualClock,
        entropy: SeededEntropy,
        self_test: Callable[[str], bool],
    ) -> None:
        """Assemble a board that is off."""
        self.name = name
        self.history = history
        self.entropy = entropy
        self.flash = memory_flash(SMALL)
        self.flash.tear = entropy
        self.flash.strike = self._strike
        self.cuts: dict[int, Moment] = {}
        self.outage_every_s: float | None = None
        self.operations = 0
        self.boots = 0
        self.removed = False
        self._clock = clock
        self._device = Device(
            flash=self.flash,
            geometry=SMALL,
            transport=transport,
            clock=clock,
            entropy=entropy,
            options=OPTIONS,
            behaviour=Behaviour(self_test=self_test, busy_s=20.0, boot_s=1.0),
        )

    @property
    def sid(self) -> str:
        """Return the device's SID."""
        return self.history.device_sid

    @property
    def state(self) -> State | None:
        """Return the durable state, read from the flash."""
        return read_state(self.flash, SMALL)

    def expect_trouble(self, operations_between_cuts: float, outage_every_s: float) -> None:
        """Let the power fail by chance, at operations on the flash and between them."""
        operation = 0
        for _ in range(_CUTS):
            operation += 1 + int(self.entropy.random.expovariate(1 / operations_between_cuts))
            self.cuts[operation] = self.entropy.random.choice(MOMENTS)
        self.outage_every_s = outage_every_s

    def expect_calm(self) -> None:
        """Let the power stay from here on."""
        self.cuts = {}
        self.outage_every_s = None

    async def live(self, look: Callable[["Board", str], Awaitable[None]]) -> None:
        """Keep the board on; call ``look`` with what ended each run, while the board is off."""
        while True:
            ended = await self._run()
            self.boots += 1
            await look(self, ended)
            pause_s = 1.0 if self.outage_every_s is None else 1.0 + 60.0 * self.entropy.fraction()
            await self._clock.sleep(pause_s)

    async def _run(self) -> str:
        every_s = self.outage_every_s
        limit_s = None if every_s is None else self.entropy.random.expovariate(1 / every_s)
        try:
            async with self._clock.timeout(limit_s):
                return f"reboot: {await self._device.run_until_reboot()}"
        except PowerCut as cut:
            return f"power cut {cut}"
        except TimeoutError:
            return "power cut between operations"

    def _strike(self, _: Operation) -> Moment | None:
        self.operations += 1
        return self.cuts.get(self.operations - 1)
