"""Each bounded map of the server, filled with the largest members that it can get: for ``test_memory``."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.channel import download
from fleetvisor.channel.ddi.polls import PollAnswer
from fleetvisor.channel.native import prefer
from fleetvisor.db.sqlite import memory
from fleetvisor.features.accounts import service as accounts
from fleetvisor.features.accounts import use
from fleetvisor.features.accounts.model import Caller
from fleetvisor.features.apps.model import AppLayer, LayerBlob
from fleetvisor.features.apps.service import _LAYER_BYTES
from fleetvisor.features.devices import presence, selectors, spelling
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import denials
from fleetvisor.features.events.denials import Refusal
from fleetvisor.features.identity import gateway, proofs
from fleetvisor.features.updates import fetches
from fleetvisor.ground import clock as times
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import BoundedMap, Room
from fleetvisor.web.guard import _digest
from fleetvisor.web.rates import Buckets, RateLimited, Windows

K = TypeVar("K")
V = TypeVar("V")
MEMBERS = 4_000  # to which the bounds are cut here: enough that what is per member shows


class NoClock:
    """Time stands still."""

    def now(self) -> Millis:
        return Millis(1_767_225_600_000)

    def monotonic(self) -> float:
        return 1000.0


def sid(kind: str, number: int) -> str:
    return f"{kind}{number:032x}"


def cut(room: Room) -> Room:
    """Return the same bound for fewer members, the fewer the larger they are."""
    members = min(MEMBERS, (4 << 20) // (room.member_bytes or 1), room.members_max)
    return room._replace(bytes_max=members * room.member_bytes)


def identity(number: int) -> DeviceIdentity:
    return DeviceIdentity(sid("UV", number), sid("AC", number))  # type: ignore[arg-type]


def fill(made: Kept[K, V], room: Room, member: Callable[[int], tuple[K, V]]) -> None:
    """Fill a cache to twice its bound; the later half stays."""

    async def read_all() -> None:
        for number in range(2 * room.members_max):
            key, value = member(number)
            await made.read(key, partial(answer, value))

    asyncio.run(read_all())
    assert len(made) == room.members_max


async def answer(value: V) -> V:
    return value


def fill_accounts(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(accounts, "PROVEN_ACCOUNTS", room)  # the bound of a million members, at a hundredth
    made = accounts.Accounts(db=memory(), clock=NoClock(), entropy=None, seal=None, limits=Limits(), bus=Bus())  # type: ignore[arg-type]

    def member(number: int) -> tuple[tuple[str, bytes], Caller]:
        caller = Caller(sid("AC", number), False, sid("SK", number), "operator", Millis(1 << 50))  # type: ignore[arg-type]
        return (sid("SK", number), number.to_bytes(32)), caller

    fill(made._proven, room, member)
    return made


def fill_key_uses(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(use, "KEY_USES", room)  # the bound of a million members, at a hundredth
    made = use.KeyUse(None)  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        made.note(sid("SK", number), Millis((1 << 50) + number))  # type: ignore[arg-type]
    assert len(made._noted) == room.members_max
    return made


def fill_proofs(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(proofs, "PROVEN_DEVICES", room)  # the bound of a million members, at a hundredth
    made = proofs.Proofs(db=memory(), clock=NoClock(), limits=Limits(), bus=Bus(), audiences=())  # type: ignore[arg-type]
    fill(made._proven, room, lambda n: (f"{n:0128}", proofs._Proven(identity(n), Millis((1 << 50) + n))))
    return made


def fill_gateway(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(gateway, "GATEWAY_DEVICES", room)  # the bound of a million members, at a hundredth
    made = gateway.Gateway(db=memory(), clock=NoClock(), entropy=None, limits=Limits(), bus=Bus())  # type: ignore[arg-type]
    fill(made._proven, room, lambda n: (n.to_bytes(32), gateway.GatewayIdentity(identity(n))))
    return made


def fill_presence(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(presence, "DEVICES_SEEN", room)  # the bound of a million members, at a hundredth
    made = presence.Presence(db=None, limits=Limits())  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        device, now = sid("UV", number), Millis((1 << 50) + number)
        made.note(device, now)  # type: ignore[arg-type]
        made.note_fetch(device, number + (1 << 30), now)  # type: ignore[arg-type]
    return made


def fill_fetches(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(fetches, "DEVICE_FETCHES", room)  # the bound of a million members, at a hundredth
    made = fetches.Fetches(Limits())
    digests = [f"{place:064x}" for place in range(16)]
    for number in range(2 * room.members_max):
        for digest in digests:
            made.note(sid("UV", number), "".join(digest), Millis((1 << 50) + number))  # type: ignore[arg-type]
    return made


def kept(room: Room, make: Callable[[int], object], weigh: Callable[[object], int]) -> object:
    """Fill a map that weighs its members, at the bound of 8 MiB."""
    made: BoundedMap[str, object] = BoundedMap(room, weigh)
    number = 0
    while number < 20_000 and (number < 10 or made.size_bytes < room.bytes_max * 0.9):
        made.put(sid("UV", number), make(number))
        number += 1
    for more in range(number, number + 100):
        made.put(sid("UV", more), make(more))
    assert made.size_bytes <= room.bytes_max
    return made


def fill_answers(_: pytest.MonkeyPatch, room: Room) -> object:
    def make(number: int) -> PollAnswer:
        return PollAnswer(b"/" * 3000 + b"%d" % number, b'"%032x"' % number, b"x" * (number % 7 * 100 + 200))

    return kept(room, make, lambda answer: len(answer.body) + len(answer.path))  # type: ignore[attr-defined]


def fill_rows(_: pytest.MonkeyPatch, room: Room) -> object:
    from fleetvisor.features.devices import service, store

    def make(number: int) -> store.DeviceRow:
        texts = dict.fromkeys(store.DeviceRow.__struct_fields__, f"{number:064}")
        texts |= {"unique_name": chr(0x1F600) * 256 + str(number), "labels": "é" * (number % 7 * 1000)}
        return store.DeviceRow(**texts)

    return kept(room, make, service._weight)  # type: ignore[arg-type]


def fill_layers(_: pytest.MonkeyPatch, room: Room) -> object:
    def make(number: int) -> tuple[AppLayer, ...]:
        return tuple(
            AppLayer(
                f"{place:032x}{number:032x}",
                number << 20,
                f"{number:064x}",
                "external",
                number << 10,
                1 << 20,
                f"{number:040x}",
                f"{number:032x}",
            )
            for place in range(64)
        )

    return kept(room, make, lambda layers: _LAYER_BYTES * len(layers))  # type: ignore[arg-type]


def fill_places(_: pytest.MonkeyPatch, room: Room) -> object:
    made: Kept[tuple[str, str], LayerBlob] = Kept(Bus(), room, lambda _: download._OF_APPS)

    def member(number: int) -> tuple[tuple[str, str], LayerBlob]:
        return (sid("AC", number), f"{number:064x}"), LayerBlob(f"{number:064x}", f"{number:064x}", number << 20)

    fill(made, room, member)
    return made


def fill_digests(_: pytest.MonkeyPatch, room: Room) -> object:
    return {f"{number:064x}": (f"{number:040x}", f"{number:032x}") for number in range(room.members_max)}


def fill_refusals(_: pytest.MonkeyPatch, __: Room) -> object:
    made = denials.Denials(db=None, clock=NoClock(), limits=Limits())  # type: ignore[arg-type]
    for number in range(20_000):
        network = f"2001:0db8:0000:{number:04x}::/64".ljust(64)
        made.note(
            Refusal(
                f"2001:db8::{number:x}".ljust(64),
                f"{number:064}",
                "OPTIONS",
                f"{number:0200}",
                401,
                network,
                "A" * 34,
                f"{number:😀>256}",
            )
        )
    return made


def fill_windows(_: pytest.MonkeyPatch, room: Room) -> object:
    made = Windows(NoClock(), room.members_max)  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        made.count(_digest("192.0.2.1", f"{number}" + "x" * 9000))
    assert len(made) == room.members_max
    return made


def fill_addresses(_: pytest.MonkeyPatch, room: Room) -> object:
    made = Windows(NoClock(), room.members_max)  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        made.count(f"_{number:063}")
    return made


def fill_buckets(_: pytest.MonkeyPatch, room: Room) -> object:
    made = Buckets(NoClock(), per_s=1, burst=1, rows_max=room.members_max)  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        try:
            made.take(sid("SK", number), "A key")
        except RateLimited:
            raise AssertionError("each comes once") from None
    assert len(made) == room.members_max
    return made


def fill_selectors(_: pytest.MonkeyPatch, room: Room) -> object:
    selectors.parse.cache_clear()
    for number in range(room.members_max):
        values = ",".join(f"{number:05}v{place:03}" for place in range(100))
        selectors.parse(f"site in ({values})", Limits())
    return selectors.parse


def fill_label_keys(_: pytest.MonkeyPatch, room: Room) -> object:
    kept: BoundedMap[str, spelling.Known] = BoundedMap(room, spelling.weight)
    for account in range(400):
        keys = [f"{account:05}/{place:05}".ljust(63, "k") for place in range(1200)]
        kept.put(f"AC{account:032}", spelling.Known(frozenset(keys[:1000]), tuple(keys[1000:]), Millis(0)))
    for account in range(30_000):
        kept.put(f"AC{account:032}", spelling.Known(frozenset((f"k{account}",)), (), Millis(0)))
    return kept


def fill_preferences(_: pytest.MonkeyPatch, room: Room) -> object:
    prefer._remembered.cache_clear()
    for number in range(2 * room.members_max):
        prefer.wait_of(b"wait=%d" % number + b" " * 50)
        prefer.wait_of(b"wait=%d" % number + b" " * 15_000)
    return prefer._remembered


def fill_times(_: pytest.MonkeyPatch, room: Room) -> object:
    times._iso_second.cache_clear()
    for number in range(min(room.members_max, 20_000)):
        times._iso_second((1 << 30) + number)
    return times._iso_second


FILLED: dict[str, Callable[[pytest.MonkeyPatch, Room], object]] = {
    "PROVEN_ACCOUNTS": fill_accounts,
    "FAILED_PROOFS": fill_windows,
    "FAILED_ADDRESSES": fill_addresses,
    "REQUEST_RATES": fill_buckets,
    "REFUSALS": fill_refusals,
    "KEY_USES": fill_key_uses,
    "PROVEN_DEVICES": fill_proofs,
    "GATEWAY_DEVICES": fill_gateway,
    "DEVICES_SEEN": fill_presence,
    "DEVICE_FETCHES": fill_fetches,
    "DEVICE_ANSWERS": fill_answers,
    "DEVICE_ROWS": fill_rows,
    "LAYER_LISTS": fill_layers,
    "LAYER_PLACES": fill_places,
    "ARTIFACT_DIGESTS": fill_digests,
    "SELECTORS": fill_selectors,
    "LABEL_KEYS": fill_label_keys,
    "PREFERENCES": fill_preferences,
    "TIMES": fill_times,
}
