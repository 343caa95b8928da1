"""A stage for the features' tests: a database in memory, a clock that stands still, seeded chance, two accounts."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.sqlite import MemoryDatabase, memory
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.events.store import Event
from fleetvisor.features.events.tail import Place, Reader
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.pki.seal import Seal
from fleetvisor.sim.loop import SeededEntropy

START = Millis(1_800_000_000_000)


class StillClock:
    """The clock port, for what only asks the time of day: it moves when a test moves it."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> Millis:
        return self.moment

    def monotonic(self) -> float:
        return self.moment / 1000

    def advance(self, delay_s: float) -> None:
        self.moment = Millis(self.moment + round(delay_s * 1000))

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nothing here waits")

    def timeout(self, delay_s: float | None) -> Any:
        raise AssertionError("nothing here waits")


def seal_of(*names: str) -> Seal:
    """Make a seal with one key for each name; the first seals."""
    return Seal([sha256(name.encode()).digest() for name in names], SeededEntropy("seal"))


@dataclass
class Stage:
    """What the services stand on."""

    db: MemoryDatabase
    clock: StillClock
    entropy: SeededEntropy
    seal: Seal
    limits: Limits
    accounts: Accounts
    bus: Bus
    account: AccountSid = field(default=AccountSid(""))
    other: AccountSid = field(default=AccountSid(""))

    async def add_device(self, account: AccountSid) -> DeviceSid:
        """Put a device's bare row there: the features below devices know no more of one."""
        device_sid = DeviceSid("UV" + self.entropy.token(16).hex())
        sql = """INSERT INTO devices (device_sid, account_sid, account_secrets, date_created, date_updated)
            VALUES (:device_sid, :account_sid, 1, 0, 0)"""
        await self.run(sql, device_sid=device_sid, account_sid=account)
        return device_sid

    async def run(self, sql: str, **params: str | int | bytes | None) -> int:
        async def body(tx):
            return await tx.run(sql, params)

        return await self.db.write(body)

    async def number(self, sql: str, **params: str | int | bytes | None) -> int:
        """Read one number, which the statement calls ``number``."""
        row = await self.db.one(_Number, sql, params)
        return 0 if row is None else row.number

    async def events(self, prefix: str = "") -> list[Event]:
        """Read every event whose type begins with ``prefix``."""
        reader = Reader(self.db)
        reader.place = Place(-1, 0, ())
        return [event async for page in reader.pages() for event in page if event.type.startswith(prefix)]

    def everything(self) -> str:
        """Give the text of every row of every table, to look for what must not be there."""
        connection = self.db._connection
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return "\n".join(str(row) for name in tables for row in connection.execute(f"SELECT * FROM {name}"))


class _Number(msgspec.Struct):
    number: int


async def stage(**bounds: int) -> Stage:
    """Set the stage; ``bounds`` are limits other than the usual."""
    db, clock, entropy, seal, limits = memory(), StillClock(), SeededEntropy("stage"), seal_of("a"), Limits(**bounds)
    bus = Bus()
    accounts = Accounts(db=db, clock=clock, entropy=entropy, seal=seal, limits=limits, bus=bus)
    made = Stage(db, clock, entropy, seal, limits, accounts, bus)
    made.account = (await accounts.ensure_first()).account_sid
    made.other = (await accounts.create()).account_sid
    return made
