"""Reads the SQL that stands in the source: every string that names a table, composed as far as its text is known.

A statement is text beside a function (``db/database``), so it can be read without being run. An f-string is composed
from the module's constants and from what its function assigns; what only a call knows stays as ``⟨expression⟩``.
Deliberately no parser of SQL: the rules of portable SQL are few, and names of tables are words of their own.
"""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fleetvisor"
MIGRATIONS = SOURCE / "db" / "migrations"
VARIANTS_MAX = 64
_LITERAL = re.compile(r"'(?:[^']|'')*'")
# A write is found in capitals or not. Prose has "from" and "join" too, so reads are found in capitals only.
_WRITE = re.compile(
    r"\b(?:(?:insert|replace)\s+into|delete\s+from|update(?=\s+\S+\s+(?:\w+\s+)?set\b))\s+([\w⟨]+)", re.I
)
_READ = re.compile(r"(?:\b(?:FROM|JOIN)\s+\(?\s*|^\s*(?=\w+ \w+ WHERE\b))([\w⟨]+)")
_MAY = re.compile(r"\bFROM\b|\bJOIN\b|\b(?:into|update|delete)\b", re.I)
_DELETE = re.compile(r"\bdelete\s+from\s+\w+", re.I)


class Statement(NamedTuple):
    """One composed text: where it stands, the constant or function that holds it, and the tables that it names.

    ``writes`` and ``reads`` have ``⟨`` for a table whose name the text does not hold.
    """

    module: str
    line: int
    name: str
    text: str
    writes: frozenset[str]
    reads: frozenset[str]

    @property
    def place(self) -> str:
        return f"{self.module}:{self.line} ({self.name})"


@cache
def columns() -> Mapping[str, frozenset[str]]:
    """Return the columns of each table, as the migrations leave them."""
    import sqlite3
    from contextlib import closing

    from fleetvisor.db.migrate import migrations

    with closing(sqlite3.connect(":memory:")) as database:
        for migration in migrations():
            for statement in migration.statements:
                database.execute(statement)
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: frozenset(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            for table in tables
            if not table.startswith("sqlite_")
        }


@cache
def statements() -> tuple[Statement, ...]:
    """Return every statement, and part of one, of the source."""
    found: list[Statement] = []
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        if path.name.endswith("_pb2.py"):
            continue
        name = ".".join(("fleetvisor", *relative.with_suffix("").parts))
        found += of_source(path.read_text(), str(relative), lambda name=name: vars(importlib.import_module(name)))
    return tuple(found)


def of_source(source: str, module: str, namespace) -> list[Statement]:
    """Return the statements of one module; ``namespace`` is called for its constants once there is a statement."""
    if "db.database" not in source and not _MAY.search(source):
        return []
    texts = list(_texts(ast.parse(source), "", None))
    if "db.database" not in source and not any(_tables(_skeleton(node)) for node, _, _ in texts):
        return []
    found: dict[tuple[str, str], Statement] = {}
    for node, name, function in texts:
        if isinstance(node, ast.Constant) and not _tables(_skeleton(node)):
            continue
        for text in _values(node, namespace(), function, 0):
            writes, reads = tables_of(text)
            if writes or reads:
                text = re.sub(r"\s+", " ", text)
                found[name, text] = Statement(module, node.lineno, name, text, writes, reads)
    return list(found.values())


def tables_of(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the tables that a text writes, and those that it reads."""
    code = _LITERAL.sub("''", text)
    known = columns().keys() | {"schema_version"}
    writes = {name for name in _WRITE.findall(code) if name in known or name.startswith("⟨")}
    reads = {name for name in _READ.findall(_DELETE.sub("", code)) if name in known or name.startswith("⟨")}
    cut = lambda names: frozenset("⟨" if name.startswith("⟨") else name for name in names)  # noqa: E731
    return cut(writes), cut(reads)


def _tables(text: str) -> bool:
    writes, reads = tables_of(text)
    return bool(writes or reads)


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _texts(node: ast.AST, name: str, function: ast.AST | None) -> Iterator[tuple[ast.expr, str, ast.AST | None]]:
    """Walk by the outermost texts, each with the constant or the function that holds it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
            continue
        inner, within = name, function
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner, within = (name if function is not None else child.name), function or child
            case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)) if not function:
                inner = target
        if isinstance(child, ast.expr) and _is_text(child):
            yield child, inner, within
        else:
            yield from _texts(child, inner, within)


def _skeleton(node: ast.AST) -> str:
    """Return a text with a mark in the place of what is composed into it."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(_skeleton(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _skeleton(left) + _skeleton(right)
        case _:
            return "⟨⟩"


def _values(node: ast.AST, namespace: Mapping, function: ast.AST | None, depth: int) -> list[str]:
    """Return what a text may be: one for each way in which it may be composed."""

    def of(child: ast.AST) -> list[str]:
        return _values(child, namespace, function, depth)

    match node:
        case ast.Constant(value=value):
            return [str(value)]
        case ast.JoinedStr(values=parts):
            return ["".join(chosen) for chosen in product(*map(of, parts))][:VARIANTS_MAX]
        case ast.FormattedValue(value=value):
            return of(value)
        case ast.IfExp(body=one, orelse=other):
            return of(one) + of(other)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [one + other for one in of(left) for other in of(right)]
        case ast.Name(id=name) if function is not None and depth < 4:
            assigned = [
                each for value in _assigned(function, name) for each in _values(value, namespace, function, depth + 1)
            ]
            if assigned:
                return assigned
    try:
        value = eval(compile(ast.unparse(node), "<sql>", "eval"), dict(namespace))
    except Exception:  # noqa: BLE001  it needs what only a call knows
        value = None
    return [str(value)] if isinstance(value, str | int) else [f"⟨{ast.unparse(node)}⟩"]


def _assigned(function: ast.AST, name: str) -> Iterator[ast.expr]:
    """Return the expressions that a function assigns to a name, alone or in a tuple."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                for place, target in enumerate(targets):
                    if isinstance(target, ast.Name) and target.id == name:
                        for each in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                            if isinstance(each, ast.Tuple):
                                yield each.elts[place]
