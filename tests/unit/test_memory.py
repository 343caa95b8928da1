"""Every map and cache of the server has a bound in bytes, and keeps to it with the largest members that it can get.

The bounds of a million members are filled at a hundredth, with the same code: a test of the whole takes gigabytes.
"""

import ast
import tracemalloc
from pathlib import Path

import pytest
from tests.unit.filled import FILLED, cut

import fleetvisor
from fleetvisor.ground import memory as rooms
from fleetvisor.ground.memory import BoundedMap, Room

pytestmark = pytest.mark.slow

SOURCES = Path(fleetvisor.__file__).parent
FLOORS = ("bus", "db", "blobs", "pki", "obs", "server", "web", "features", "channel", "api", "ground", "protocol")

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
    "channel/native/desired.py _answers": "DEVICE_ANSWERS",
    "channel/ddi/polls.py _answers": "DEVICE_ANSWERS",
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
    "channel/native/prefer.py _remembered": "PREFERENCES",
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
    "channel/native/app.py made": "one document",
    "obs/metrics.py _requests": "the program's own routes, methods and statuses; all else is other",
    "obs/metrics.py _failures": "the program's own jobs",
    "ground/memory.py _members": "the row that it is made with",
    "channel/layers.py _kept": "layer_cache_bytes",
    "channel/layers.py _proved": "_PROVED_MAX members of fixed size",
    "channel/layers.py _proofs": "connections_max: a layer that a request under way asks for",
    "features/apps/checking.py _wrong": "_SEEN_MAX members of fixed size",
    "channel/layers.py _reads": "layer_cache_bytes: room is taken before a read begins",
    "channel/held_polls.py _by_device": "held_polls_max",
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
