"""Every map and cache of the server has a bound in bytes, and keeps to it with the largest members that it can get.

The bounds of a million members are filled at a hundredth, with the same code: a test of the whole takes gigabytes.
"""

import ast
import asyncio
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

import fleetvisor
from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.channel import download, prefer
from fleetvisor.db.sqlite import memory
from fleetvisor.features.accounts import service as accounts
from fleetvisor.features.accounts import use
from fleetvisor.features.accounts.model import Caller
from fleetvisor.features.apps.model import AppLayer, LayerBlob
from fleetvisor.features.apps.service import _LAYER_BYTES
from fleetvisor.features.devices import presence, selectors, spelling
from fleetvisor.features.devices.desired import DesiredAnswer
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.polls import PollAnswer
from fleetvisor.features.events import denials
from fleetvisor.features.events.denials import Refusal
from fleetvisor.features.identity import gateway, proofs
from fleetvisor.features.updates import fetches
from fleetvisor.ground import clock as times
from fleetvisor.ground import memory as rooms
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import BoundedMap, Room
from fleetvisor.web.guard import _digest
from fleetvisor.web.rates import Buckets, RateLimited, Windows

K = TypeVar("K")
V = TypeVar("V")
SOURCES = Path(fleetvisor.__file__).parent
FLOORS = ("bus", "db", "blobs", "pki", "obs", "server", "web", "features", "channel", "api", "ground", "protocol")
MEMBERS = 4_000  # to which the bounds are cut here: enough that what is per member shows

# What each map of an object that lives as long as the server is bounded by.
BOUNDED = {
    "features/accounts/service.py _proven": "PROVEN_ACCOUNTS",
    "features/accounts/use.py _written": "KEY_USES",
    "features/accounts/use.py _noted": "KEY_USES",
    "features/identity/proofs.py _proven": "PROVEN_DEVICES",
    "features/identity/gateway.py _proven": "GATEWAY_DEVICES",
    "features/devices/presence.py _seen": "DEVICES_SEEN",
    "features/devices/presence.py _fetched": "DEVICES_SEEN",
    "features/devices/presence.py _started": "DEVICES_SEEN",
    "features/updates/fetches.py _noted": "DEVICE_FETCHES",
    "features/updates/fetches.py _last": "DEVICE_FETCHES",
    "features/devices/desired.py _answers": "DESIRED_ANSWERS",
    "features/devices/polls.py _answers": "DDI_ANSWERS",
    "features/devices/service.py _rows": "DEVICE_ROWS",
    "features/apps/service.py _layers": "LAYER_LISTS",
    "features/apps/artifacts.py _known": "ARTIFACT_DIGESTS",
    "channel/download.py _places": "LAYER_PLACES",
    "features/events/denials.py _counts": "REFUSALS",
    "features/events/denials.py _sums": "REFUSALS",
    "features/events/denials.py _spent": "REFUSALS",
    "web/rates.py _rows": "FAILED_PROOFS",
    "features/devices/selectors.py parse": "SELECTORS",
    "features/devices/spelling.py _known": "LABEL_KEYS",
    "channel/prefer.py _remembered": "PREFERENCES",
    "ground/clock.py _iso_second": "TIMES",
}
# What is bounded by what is under way, by a limit of its own, or by the program itself; each with the reason.
OTHERWISE = {
    "api/enrollment.py _importing": "the imports under way, one for each account",
    "db/migrate.py migrations": "the program's own files",
    "db/statement_cache.py _values": "bounded in bytes by its maker",
    "db/sqlite.py _blank": "one empty database",
    "db/sqlite.py _inspectors": "the program's own looks for damage",
    "features/identity/refusals.py _refused": "enrollment_refusals_bytes, filled by test_refusals.py",
    "bus/kept.py _members": "the row that it is made with",
    "bus/kept.py _by_bell": "the members, each once",
    "bus/kept.py _epochs": "the accounts of the server, which only the first one makes",
    "channel/app.py made": "one document",
    "obs/metrics.py _requests": "the program's own routes, methods and statuses; all else is other",
    "obs/metrics.py _failures": "the program's own jobs",
    "ground/memory.py _members": "the row that it is made with",
    "channel/layers.py _kept": "layer_cache_bytes",
    "channel/layers.py _proved": "_PROVED_MAX members of fixed size",
    "channel/layers.py _proofs": "connections_max: a layer that a request under way asks for",
    "features/apps/checking.py _wrong": "_SEEN_MAX members of fixed size",
    "channel/layers.py _reads": "layer_cache_bytes: room is taken before a read begins",
    "channel/hub.py _by_device": "held_polls_max",
    "web/scans.py _lines": "connections_max: an account whose request is under way",
    "features/apps/artifacts.py _busy": "connections_max: a digest that a request waits for",
    "features/rollouts/ticker.py _memos": "rollouts_open_max",
    "db/sqlite_writer.py jobs": "connections_max: a body of a request under way",
    "db/sqlite_statements.py _plans": "the program's own statements",
    "db/postgres_statements.py _known": "a number of texts, each bounded as the selector that made it",
    "db/postgres_statements.py _plans": "as the texts",
    "db/postgres.py _writes": "connections_max: a body of a request under way",
    "bus/bus.py _listeners": "the program's own caches",
    "bus/bus.py _watches": "connections_max: a read of a request under way",
    "obs/health.py _hearts": "the program's own jobs",
    "obs/health.py _sources": "the program's own sources",
    "server/listener.py _leaving": "the doors that were replaced",
    "server/parsing.py _workers": "a number of processes",
    "server/parsing.py _shares": "connections_max: an account whose upload is read",
    "server/disks.py _told": "the program's own places",
    "api/routes.py _by_shape": "the program's own routes",
}


def held(module: Path) -> set[str]:
    """Find the maps, lists and caches that a module keeps beyond a call."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef):
            words = " ".join(ast.unparse(one) for one in node.decorator_list)
            found |= {node.name} if "cache" in words and "property" not in words else set()
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if "cache(" in ast.unparse(node.value):
                found.add(ast.unparse(target))
    for kind in [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ClassDef)]:
        for method in [node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]:
            for node in ast.walk(method):
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if isinstance(target, ast.Attribute) and is_growing(node.value):
                        found.add(target.attr)
    return found


def is_growing(value: ast.expr) -> bool:
    if isinstance(value, ast.Dict | ast.List):
        return not (value.keys if isinstance(value, ast.Dict) else value.elts)
    if isinstance(value, ast.Call):
        if ast.unparse(value.func) in {"list", "dict", "set"} and value.args:
            return False
        return ast.unparse(value.func).rpartition(".")[2] in {
            "OrderedDict", "dict", "set", "list", "deque", "defaultdict", "Counter", "Kept", "BoundedMap", "StatementCache",
            "SimpleQueue", "Queue", "WeakValueDictionary", "WeakSet",
        }  # fmt: skip
    return False


# Objects that live for one request, upload or import: what they hold is bounded by its limits.
OF_A_REQUEST = {"api/uploads.py", "features/identity/batch.py", "features/apps/service.py _paths"}


def test_every_map_of_the_server_has_a_bound() -> None:
    found = {
        f"{module.relative_to(SOURCES)} {name}"
        for floor in FLOORS
        for module in (SOURCES / floor).rglob("*.py")
        for name in held(module)
    }
    found = {place for place in found if place not in OF_A_REQUEST and place.split()[0] not in OF_A_REQUEST}
    assert found - {*BOUNDED, *OTHERWISE} == set(), "give it a row in ground/memory.py, and fill it below"
    assert {*BOUNDED, *OTHERWISE} - found == set(), "this is gone: remove its line"


def test_every_row_is_used_and_filled() -> None:
    rows = {name for name, value in vars(rooms).items() if isinstance(value, Room)}
    assert rows == {*BOUNDED.values(), "FAILED_ADDRESSES", "REQUEST_RATES"} == {*FILLED}


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
    monkeypatch.setattr(accounts, "PROVEN_ACCOUNTS", room)
    made = accounts.Accounts(db=memory(), clock=NoClock(), entropy=None, seal=None, limits=Limits(), bus=Bus())  # type: ignore[arg-type]

    def member(number: int) -> tuple[tuple[str, bytes], Caller]:
        caller = Caller(sid("AC", number), False, sid("SK", number), "operator", Millis(1 << 50))  # type: ignore[arg-type]
        return (sid("SK", number), number.to_bytes(32)), caller

    fill(made._proven, room, member)
    return made


def fill_key_uses(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(use, "KEY_USES", room)
    made = use.KeyUse(None)  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        made.note(sid("SK", number), Millis((1 << 50) + number))  # type: ignore[arg-type]
    assert len(made._noted) == room.members_max
    return made


def fill_proofs(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(proofs, "PROVEN_DEVICES", room)
    made = proofs.Proofs(db=memory(), clock=NoClock(), limits=Limits(), bus=Bus(), audiences=())  # type: ignore[arg-type]
    fill(made._proven, room, lambda n: (f"{n:0128}", proofs._Proven(identity(n), Millis((1 << 50) + n))))
    return made


def fill_gateway(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(gateway, "GATEWAY_DEVICES", room)
    made = gateway.Gateway(db=memory(), clock=NoClock(), entropy=None, limits=Limits(), bus=Bus())  # type: ignore[arg-type]
    fill(made._proven, room, lambda n: (n.to_bytes(32), gateway.GatewayIdentity(identity(n))))
    return made


def fill_presence(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(presence, "DEVICES_SEEN", room)
    made = presence.Presence(db=None, limits=Limits())  # type: ignore[arg-type]
    for number in range(2 * room.members_max):
        device, now = sid("UV", number), Millis((1 << 50) + number)
        made.note(device, now)  # type: ignore[arg-type]
        made.note_fetch(device, number + (1 << 30), now)  # type: ignore[arg-type]
    return made


def fill_fetches(monkeypatch: pytest.MonkeyPatch, room: Room) -> object:
    monkeypatch.setattr(fetches, "DEVICE_FETCHES", room)
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


def fill_desired(_: pytest.MonkeyPatch, room: Room) -> object:
    def make(number: int) -> DesiredAnswer:
        return DesiredAnswer(
            b'"%032x"' % number, b"x" * (number % 7 * 4000 + 200), Millis((1 << 50) + number), number + 1000
        )

    return kept(room, make, lambda answer: len(answer.body))  # type: ignore[attr-defined]


def fill_polls(_: pytest.MonkeyPatch, room: Room) -> object:
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
            Refusal(f"2001:db8::{number:x}".ljust(64), f"{number:064}", "OPTIONS", f"{number:0200}", 401, network)
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
    "DESIRED_ANSWERS": fill_desired,
    "DDI_ANSWERS": fill_polls,
    "DEVICE_ROWS": fill_rows,
    "LAYER_LISTS": fill_layers,
    "LAYER_PLACES": fill_places,
    "ARTIFACT_DIGESTS": fill_digests,
    "SELECTORS": fill_selectors,
    "LABEL_KEYS": fill_label_keys,
    "PREFERENCES": fill_preferences,
    "TIMES": fill_times,
}
SEVERAL = {"DEVICES_SEEN": 3, "DEVICE_FETCHES": 2, "KEY_USES": 2}  # maps that are filled at once, with a bound each
WEIGHED = 8 << 20


@pytest.mark.parametrize("name", sorted(FILLED))
def test_a_full_map_keeps_to_its_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room: Room = getattr(rooms, name)
    room = (room if name == "REFUSALS" else cut(room)) if room.member_bytes else room._replace(bytes_max=WEIGHED)

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    filled = FILLED[name](monkeypatch, room)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert filled is not None
    assert taken <= SEVERAL.get(name, 1) * room.bytes_max, f"{taken:,} bytes, more than {room.bytes_max:,}"


def test_the_oldest_make_room_and_what_is_too_large_is_not_kept() -> None:
    made: BoundedMap[str, bytes] = BoundedMap(Room(3000, 0, ""), len)
    for name in "abc":
        made.put(name, b"x" * 600)
    assert (len(made), made.size_bytes) == (3, 3000)
    made.put("b", b"y")
    made.put("d", b"z" * 1000)
    assert made.get("a") is None
    assert made.get("d") is not None
    made.put("e", b"x" * 5000)
    assert made.get("e") is None
    for name in "abcde":
        made.drop(name)
    assert (len(made), made.size_bytes) == (0, 0)
