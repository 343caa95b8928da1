"""No pattern of ours, and no reader of a header or form, takes long for any input that fits where it is used.

``re`` holds the interpreter's lock while it matches, so one slow match holds up everybody. What makes a pattern slow is
two repetitions beside one another that match the same characters: write them possessive (``*+``, ``++``, ``?+``).
"""

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
import re._constants as ops  # type: ignore[import-not-found]
import re._parser as grammar  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from ipaddress import ip_network
from typing import Any

import pytest
from tests import yardstick

import fleetvisor
from fleetvisor.api.uploads import _boundary as boundary_of
from fleetvisor.channel.ddi.credentials import parse_gateway_token, parse_target_token
from fleetvisor.channel.native.prefer import wait_of
from fleetvisor.ground.errors import Problem
from fleetvisor.web.address import Addresses
from fleetvisor.web.auth import parse_basic, parse_bearer
from fleetvisor.web.conditional import matches, parse_range
from fleetvisor.web.requests import Request, parse_fields, parse_media_type
from fleetvisor.web.values import parse_options

pytestmark = pytest.mark.slow

SIZE = 16 << 10
MOST_S = 0.005
# What takes under 0.05 ms for a quarter of the text takes under 5 ms for all of it, also where it grows by the cube.
SIZES = (20, 256, SIZE // 4, SIZE)
NOTHING_S = 0.00005
METHODS = ("match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
PLAIN = (" ", "\t", "\n", "0", "7", '"', "'", ",", ";", "a", "Z", "\\", "=", "-", ".", "_")
FAILS = ("", "x", "\0")

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fleetvisor.__path__, "fleetvisor.")
    if not module.name.endswith("__main__")
)


def patterns_in(value: object, depth: int = 3) -> Iterator["re.Pattern[Any]"]:
    """Find the compiled patterns in a value, also in containers and classes."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, dict):
        yield from (found for item in [*value, *value.values()] for found in patterns_in(item, depth - 1))
    elif depth and isinstance(value, tuple | list | set | frozenset):
        yield from (found for item in value for found in patterns_in(item, depth - 1))
    elif depth and inspect.isclass(value) and value.__module__.startswith("fleetvisor"):
        yield from (found for item in [*vars(value).values()] for found in patterns_in(item, depth - 1))


@cache
def source_of(name: str) -> str:
    """Return a module's text."""
    return inspect.getsource(importlib.import_module(name))


def calls_of_re(name: str) -> list[tuple[ast.Call, bool]]:
    """Find the calls of ``re`` in a module's text, each with whether it stands inside a function."""
    if "re." not in source_of(name):
        return []
    found: list[tuple[ast.Call, bool]] = []

    def look(node: ast.AST, inside: bool) -> None:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in {*METHODS, "compile"}
        ):
            found.append((node, inside))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            look(child, inside)

    look(ast.parse(source_of(name)), inside=False)
    return found


def every_pattern() -> dict[str, "re.Pattern[Any]"]:
    """Find every pattern of ours by where it stands and what it is."""
    found: dict[str, re.Pattern[Any]] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for pattern in patterns_in(vars(module)):
            found.setdefault(str(pattern.pattern), pattern)
        for call, _ in calls_of_re(name):
            if call.func.attr != "compile":  # type: ignore[attr-defined]
                pattern = re.compile(ast.literal_eval(call.args[0]))
                found.setdefault(str(pattern.pattern), pattern)
    return found


def example(items: Iterable[Any]) -> str:
    """Give a short text that a parsed pattern matches, as far as it can be told without looking around."""
    text = ""
    for op, value in items:
        match op:
            case ops.LITERAL:
                text += chr(value)
            case ops.NOT_LITERAL:
                text += "a" if value != ord("a") else "b"
            case ops.IN:
                text += next((char for char in "a0 ,;=.-_\"'/\\" if in_class(char, value)), "")
            case ops.ANY:
                text += "a"
            case ops.BRANCH:
                text += example(value[1][0])
            case ops.SUBPATTERN:
                text += example(value[3])
            case ops.ATOMIC_GROUP:
                text += example(value)
            case ops.MAX_REPEAT | ops.MIN_REPEAT | ops.POSSESSIVE_REPEAT:
                text += example(value[2]) * max(1, min(value[0], 64))
            case _:
                pass
    return text


def in_class(char: str, items: Iterable[Any]) -> bool:
    """Tell whether a character is of a class, as ``[...]`` is parsed."""
    categories = {
        ops.CATEGORY_DIGIT: str.isdigit,
        ops.CATEGORY_SPACE: str.isspace,
        ops.CATEGORY_WORD: lambda one: one.isalnum() or one == "_",
    }
    negated = found = False
    for op, value in items:
        match op:
            case ops.NEGATE:
                negated = True
            case ops.LITERAL:
                found |= ord(char) == value
            case ops.RANGE:
                found |= value[0] <= ord(char) <= value[1]
            case ops.CATEGORY:
                found |= categories.get(value, lambda _: False)(char)
            case _:
                pass
    return found != negated


def inner(op: Any, value: Any) -> list[Any]:
    """Give the parsed patterns inside a parsed item."""
    match op:
        case ops.BRANCH:
            return list(value[1])
        case ops.SUBPATTERN:
            return [value[3]]
        case ops.ATOMIC_GROUP:
            return [value]
        case ops.MAX_REPEAT | ops.MIN_REPEAT | ops.POSSESSIVE_REPEAT:
            return [value[2]]
        case _:
            return []


def beginnings(items: Iterable[Any], before: str = "") -> Iterator[str]:
    """Give a text that leads to each place in a parsed pattern."""
    yield before
    for item in items:
        for one in inner(*item):
            yield from beginnings(one, before)
        before += example([item])
        yield before


def atoms(items: Iterable[Any]) -> Iterator[str]:
    """Give the literals of a parsed pattern, single and in runs."""
    run = ""
    for op, value in items:
        if op is ops.LITERAL:
            run += chr(value)
            yield chr(value)
            continue
        if run:
            yield run
        run = ""
        if op is ops.IN:
            yield from (chr(code) for kind, code in value if kind is ops.LITERAL)
        for one in inner(op, value):
            yield example(one)
            yield from atoms(one)
    if run:
        yield run


def hostile(pattern: "re.Pattern[Any]") -> Iterator[Any]:
    """Give texts that a careless pattern takes long for, each in growing sizes."""
    parsed = grammar.parse(pattern.pattern, pattern.flags & ~re.UNICODE | (re.ASCII if pattern.flags & re.ASCII else 0))
    starts = dict.fromkeys(beginnings(parsed))
    for atom in dict.fromkeys([*PLAIN, *filter(None, atoms(parsed))]):
        for start in starts:
            for fail in FAILS:
                texts = [start + atom * (size // len(atom)) + fail for size in SIZES]
                yield [
                    text.encode("latin-1", "ignore") if isinstance(pattern.pattern, bytes) else text for text in texts
                ]


def used(pattern: "re.Pattern[Any]") -> set[str]:
    """Tell by which methods a pattern is asked, by the names that it has in its modules; all, where none is told."""
    found: set[str] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        names = [key for key, value in vars(module).items() if isinstance(value, re.Pattern) and value is pattern]
        for key in names:
            found |= set(re.findall(rf"\b{key}\.({'|'.join(METHODS)})\(", source_of(name)))
    return found or {"match", "fullmatch"}


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of ``work``, which may refuse what it reads."""

    def tried() -> None:
        with contextlib.suppress(Problem):
            work()

    return yardstick.seconds(tried, MOST_S)


def asked(pattern: "re.Pattern[Any]", method: str, text: Any) -> Callable[[], object]:
    """Ask a pattern as the code does, and take all that it gives."""
    if method in {"sub", "subn"}:
        return lambda: getattr(pattern, method)(lambda found: found[0], text)
    if method == "finditer":
        return lambda: list(pattern.finditer(text))
    return lambda: getattr(pattern, method)(text)


def slowest(pattern: "re.Pattern[Any]", methods: Iterable[str]) -> tuple[float, str]:
    """Give the longest time of a pattern over all hostile texts, with the text."""
    worst = (0.0, "")
    for texts in hostile(pattern):
        for method in methods:
            for text in texts:
                took = seconds(asked(pattern, method, text))
                worst = max(worst, (took, f"{method} of {text[:40]!r}…{text[-3:]!r}"))
                if took > MOST_S:
                    return worst
                if len(text) > SIZES[2] and took < NOTHING_S:
                    break
    return worst


PATTERNS = every_pattern()


@pytest.mark.parametrize("text", sorted(PATTERNS))
def test_a_pattern_takes_no_time_for_any_16_kib(text: str) -> None:
    pattern = PATTERNS[text]

    took, what = slowest(pattern, used(pattern))

    assert took <= MOST_S, f"{took * 1000:.1f} ms for {what}: make its repetitions possessive"


@pytest.mark.parametrize(
    "text", [r'[ \t]*(?:"[a-z]*")?[ \t]*(?:,|\Z)', r"bytes=[ \t]*(\d*)[ \t]*[ \t]*-", r"(?:a|b?a)*c", r"(\d+\.?)+!"]
)
def test_what_is_slow_is_found(text: str) -> None:
    took, _ = slowest(re.compile(text), ["fullmatch"])

    assert took > MOST_S


def test_patterns_are_compiled_where_they_are_found() -> None:
    for name in MODULES:
        for call, inside in calls_of_re(name):
            literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
            assert literal or not inside, f"{name}: compile the pattern of line {call.lineno} at the module's level"


class _NoClock:
    """A clock that nobody looks at."""


def _request(*headers: tuple[bytes, bytes]) -> Request:
    scope = {"method": "GET", "path": "/", "headers": headers, "query_string": b""}
    return Request(scope, receive=None, clock=_NoClock())  # type: ignore[arg-type]


def _behind_a_proxy(name: bytes) -> Callable[[bytes], object]:
    addresses = Addresses([ip_network("10.0.0.0/8")])
    return lambda value: addresses.of({"client": ("10.0.0.1", 1), "headers": [(name, value)]})


READERS: dict[str, Callable[[bytes], object]] = {
    "If-None-Match": lambda value: matches(value, b'"abc"'),
    "Range": lambda value: parse_range(value, 1000),
    "Prefer": wait_of,
    "Authorization: Basic": parse_basic,
    "Authorization: Bearer": parse_bearer,
    "Authorization: TargetToken": parse_target_token,
    "Authorization: GatewayToken": parse_gateway_token,
    "Forwarded": _behind_a_proxy(b"forwarded"),
    "X-Forwarded-For": _behind_a_proxy(b"x-forwarded-for"),
    "Content-Type": parse_media_type,
    "Content-Disposition": parse_options,
    "Content-Type of an upload": lambda value: boundary_of(_request((b"content-type", value))),
    "Content-Length": lambda value: _request((b"content-length", value)).content_length(),
    "a header that comes often": lambda value: _request(
        *((b"x", value[place : place + 1]) for place in range(4096))
    ).header(b"x"),
    "query": lambda value: parse_fields(value, "The query"),
}
# The standard library takes a percent sign at a time: that grows with the text alone, but not so fast.
READERS_S = {"query": 4 * MOST_S}
STARTS = (b"", b'"a",', b"bytes=", b"bytes=1", b'for="', b"for=", b"wait=", b'a; b="', b"Basic ", b"Bearer ", b"a;")
REPEATED = (
    b" ", b"\t", b"0", b"a", b'"', b",", b";", b"=", b"\\", b"-", b":", b".", b"&", b"%", b"+", b"[", b"(",
    b'",', b'"a",', b'\\"', b'";', b'=";', b"a;", b";a=b", b"a=1,", b"a=&", b"%41", b", ", b"; ", b'for="a";', b"1.", b"::",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_header_is_read_in_no_time(name: str) -> None:
    read = READERS[name]
    for start in STARTS:
        for atom in REPEATED:
            for fail in (b"x", b'"', b"\xff"):
                value = (start + atom * SIZE)[:SIZE] + fail
                took = seconds(lambda value=value: read(value))
                assert took <= READERS_S.get(name, MOST_S), f"{took * 1000:.1f} ms for {start!r} {atom!r}… {fail!r}"
