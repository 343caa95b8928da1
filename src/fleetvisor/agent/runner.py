"""Drives the core with a flash, a transport and a clock: boot after boot, for as long as the device lives.

Deliberately decides nothing. What the core commands is done here, in order, one thing at a time; what is not in the
flash is lost at every reboot, exactly as on a board.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from fleetvisor.agent import wire
from fleetvisor.agent.commands import (
    AskLeave,
    Boot,
    Checked,
    Command,
    Done,
    Event,
    Failure,
    Fetch,
    FetchManifest,
    FlashBroken,
    Keep,
    Poll,
    Program,
    Reboot,
    SelfTest,
    Tell,
    Verify,
    Wait,
)
from fleetvisor.agent.core import Core, View
from fleetvisor.agent.flash import FileFlash, Flash, FlashFault, MemoryFlash
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.slots import Slots
from fleetvisor.agent.state import Booted
from fleetvisor.agent.talk import Options
from fleetvisor.agent.wire import Lost, Transport
from fleetvisor.ground.clock import Clock, Entropy


def memory_flash(geometry: Geometry) -> MemoryFlash:
    """Make an erased flash of this geometry, in memory."""
    return MemoryFlash(geometry.flash_bytes, sector_bytes=geometry.sector_bytes, unit_bytes=geometry.unit_bytes)


def file_flash(path: Path, geometry: Geometry) -> FileFlash:
    """Open, or make, a flash of this geometry in a file. Raises ``FlashFault``."""
    return FileFlash(path, geometry.flash_bytes, sector_bytes=geometry.sector_bytes, unit_bytes=geometry.unit_bytes)


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the simulated apps do: pass their self-test (by manifest hash), stay busy, take time to boot."""

    self_test: Callable[[str], bool] = _always
    busy_s: float = 0.0
    boot_s: float = 0.0


class Device:
    """One device: what it is made of, and how it does what its agent commands."""

    def __init__(
        self,
        *,
        flash: Flash,
        geometry: Geometry,
        transport: Transport,
        clock: Clock,
        entropy: Entropy,
        options: Options | None = None,
        behaviour: Behaviour | None = None,
        on_change: Callable[[View], None] | None = None,
    ) -> None:
        """Assemble a device; ``run`` switches it on."""
        self._flash = flash
        self._geometry = geometry
        self._transport = transport
        self._clock = clock
        self._entropy = entropy
        self._options = options or Options()
        self._behaviour = behaviour or Behaviour()
        self._on_change = on_change
        self._seen: View | None = None
        self._asked_leave_s: float | None = None

    async def run(self) -> None:
        """Switch the device on, and keep it on, through its own reboots. Raises ``FlashFault`` and ``PowerCut``."""
        while True:
            await self.run_until_reboot()
            await self._clock.sleep(self._behaviour.boot_s)

    async def run_until_reboot(self) -> str:
        """Boot, and run until the agent reboots; give its reason."""
        slots = Slots(self._flash, self._geometry, self._entropy)
        slots.keep(Booted())
        core = Core(slots.state, self._geometry, self._options, self._entropy)
        self._asked_leave_s = None
        event: Event = Boot()
        while True:
            command = core.step(event, self._clock.monotonic())
            self._show(core.view)
            if isinstance(command, Reboot):
                return command.reason
            event = await self._do(command, slots)

    async def _do(self, command: Command, slots: Slots) -> Event:
        match command:
            case Poll() | Fetch() | FetchManifest() | Tell():
                return await self._exchange(command)
            case Keep(record):
                slots.keep(record)
                return Done()
            case Program(sector, count, data):
                try:
                    slots.program(sector, count, data)
                except FlashFault as fault:
                    return FlashBroken(str(fault))
                await self._clock.sleep(0)
                return Done()
            case Verify(layers):
                try:
                    return Checked(slots.verify(layers))
                except FlashFault as fault:
                    return FlashBroken(str(fault))
            case SelfTest(manifest):
                return Checked(self._behaviour.self_test(manifest))
            case AskLeave():
                return Checked(self._may_go())
            case Wait(delay_s):
                await self._clock.sleep(delay_s)
                return Done()
            case Reboot():
                return Done()
            case _:
                assert_never(command)

    async def _exchange(self, command: Poll | Fetch | FetchManifest | Tell) -> Event:
        request = wire.render(command)
        try:
            async with self._clock.timeout(request.time_s):
                response = await self._transport.exchange(request)
        except Lost as fault:
            return Failure(None, str(fault))
        except TimeoutError:
            return Failure(None, f"no answer in {request.time_s:.0f} s")
        return wire.parse(command, response)

    def _may_go(self) -> bool:
        now_s = self._clock.monotonic()
        if self._asked_leave_s is None:
            self._asked_leave_s = now_s
        return now_s - self._asked_leave_s >= self._behaviour.busy_s

    def _show(self, view: View) -> None:
        if self._on_change is not None and view != self._seen:
            self._seen = view
            self._on_change(view)
