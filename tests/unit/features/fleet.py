"""An account with apps and devices on a database in memory, for tests of what happens to a device."""

from dataclasses import dataclass, field

from fleetvisor.bus.bus import Bus
from fleetvisor.db.sqlite import MemoryDatabase, memory
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.devices.model import DeviceChange, Registration
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.events.tail import Place, Reader
from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.features.updates.service import Updates
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import new_app_sid
from fleetvisor.pki.seal import Seal
from fleetvisor.protocol.native import Report, Running, UpdateReport
from fleetvisor.sim.loop import SeededEntropy


class StillClock:
    """A clock that a test moves."""

    def __init__(self):
        self.time = 1_000_000_000_000

    def now(self):
        return Millis(self.time)

    def pass_s(self, seconds):
        self.time += round(seconds * 1000)


@dataclass
class Fleet:
    """One account's devices and what they say."""

    db: MemoryDatabase
    clock: StillClock
    bus: Bus
    entropy: SeededEntropy
    devices: Devices
    updates: Updates
    fetches: Fetches
    account: str
    other: str
    rung: list = field(default_factory=list)
    sequences: dict = field(default_factory=dict)

    async def app(self, letter, account=None):
        """Put an app's bare row there; its manifest hash is 64 times ``letter``."""
        app = App(
            new_app_sid(self.entropy), account or self.account, f"app-{letter}", letter * 64, False, 100, 0, 0, 0,
            self.clock.now(),
        )  # fmt: skip

        async def body(tx):
            assert await apps_store.insert(tx, app, b"manifest")

        await self.db.write(body)
        return app

    async def device(self, name=None, account=None):
        return (
            await self.devices.create(account or self.account, Registration(name, account_secrets=True))
        ).device.device_sid

    async def target(self, sid, app):
        return await self.devices.update(self.account, sid, DeviceChange(target_app=app.app_sid if app else None))

    async def get(self, sid):
        return await self.devices.get(self.account, sid)

    async def report(self, sid, letter=None, state=None, number=1, journal="0" * 32, sequence=None, **update):
        """Report that ``letter``'s app runs, and how far update ``number`` is."""
        if sequence is None:
            sequence = self.sequences[sid] = self.sequences.get(sid, 0) + 1
        running = Running(letter * 64 if letter else None)
        told = UpdateReport(number, state, **update) if state else None
        return await self.updates.report(self.account, sid, Report(journal, sequence, running, told))

    async def events(self):
        reader = Reader(self.db)
        reader.place = Place(-1, 0, ())
        return [event.type async for page in reader.pages() for event in page]


async def fleet(**bounds):
    """Make an empty fleet; ``bounds`` are limits other than the usual."""
    db, clock, bus, entropy, limits = memory(), StillClock(), Bus(), SeededEntropy(1, "fleet"), Limits(**bounds)
    seal = Seal([bytes(32)], entropy)
    accounts = Accounts(db=db, clock=clock, entropy=entropy, seal=seal, limits=limits, bus=bus)
    devices = Devices(db=db, clock=clock, entropy=entropy, limits=limits, bus=bus)
    fetches = Fetches(limits)
    updates = Updates(db=db, clock=clock, limits=limits, bus=bus, fetches=fetches)
    first, second = await accounts.ensure_first(), await accounts.create()
    made = Fleet(db, clock, bus, entropy, devices, updates, fetches, first.account_sid, second.account_sid)
    bus.listen(made.rung.append)
    return made
