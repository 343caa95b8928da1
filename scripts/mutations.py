"""The mutants of a module: its syntax tree with one small change each, compiled.

Each change is a typical slip: a bound that is off by one, a condition that is inverted or missing, a statement that is
missing. Annotations, decorators, docstrings and prose (a text of several words) stay as they are, because tests that
repeat them prove nothing. This module runs no mutant: ``scripts/mutants.py`` does.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Final

CONTEXT_CHARS_MAX: Final = 70
_PROSE: Final = re.compile(r"\w[,.:;']? \(?\w+[,.:;']? ?\w")
_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_PAIRS: Final = (("min", "max"), ("any", "all"), ("startswith", "endswith"), ("lstrip", "rstrip"), ("find", "rfind"))
_OTHER: Final = dict(_PAIRS) | {second: first for first, second in _PAIRS}
_FORGOTTEN: Final = (ast.Expr, ast.AugAssign, ast.Delete, ast.Raise)
_UNTOUCHED: Final = {"annotation", "returns", "decorator_list", "keywords_of_class", "type_params"}
_TYPES_ONLY: Final = {"Literal", "TypeVar", "NewType", "cast", "Protocol"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. ``label`` names it, also when lines move. ``in_function``: it is in the body of a function."""

    label: str
    line: int
    code: CodeType
    in_function: bool


@dataclass(frozen=True, slots=True)
class _Change:
    """Put ``new`` where ``old`` stands: in a field of ``holder``, at ``index`` where the field is a list."""

    holder: ast.AST
    field: str
    index: int | None
    new: ast.AST | None

    def swap(self, value: object) -> object:
        if self.index is None:
            old = getattr(self.holder, self.field)
            setattr(self.holder, self.field, value)
            return old
        items = getattr(self.holder, self.field)
        old, items[self.index] = items[self.index], value
        return old


def mutants(source: Path) -> Iterator[Mutant]:
    """Return the mutants of a module, from top to bottom, without those that compile to the same code."""
    tree = ast.parse(source.read_text())
    original = compile(tree, str(source), "exec", dont_inherit=True)
    for label, change, trail in _labelled(tree):
        old = change.swap(change.new)
        try:
            code = compile(ast.fix_missing_locations(tree), str(source), "exec", dont_inherit=True)
        finally:
            change.swap(old)
        if code != original:
            yield Mutant(label, getattr(trail[-1], "lineno", 0), code, _is_in_function(trail))


def labels(source: Path) -> set[str]:
    """Return the labels of all changes of a module, also of those that compile to the same code."""
    return {label for label, _, _ in _labelled(ast.parse(source.read_text()))}


def _labelled(tree: ast.AST) -> "Iterator[tuple[str, _Change, Trail]]":
    counted: Counter[str] = Counter()
    texts: dict[ast.AST, str] = {}
    for change, trail in _changes(tree, ()):
        shown = _shown(trail, texts)
        old = change.swap(change.new)
        try:
            after = _text(change.new if shown is old else shown)
        finally:
            change.swap(old)
        place = ".".join(node.name for node in trail if isinstance(node, _NAMED)) or "module"
        label = f"{place}: {texts[shown]} -> {after}"
        counted[label] += 1
        yield f"{label} #{counted[label]}" if counted[label] > 1 else label, change, trail


_NAMED: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Trail = tuple[ast.AST, ...]


def _is_in_function(trail: Trail) -> bool:
    """Return whether the change is of a function's body: a default is computed with the module."""
    for node, below in zip(trail, (*trail[1:], None), strict=True):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return below is not node.args
    return False


def _text(node: ast.AST | None) -> str:
    return "None" if node is None else ast.unparse(node).partition("\n")[0]


def _shown(trail: Trail, texts: dict[ast.AST, str]) -> ast.AST:
    """Return the largest part around a change that is short enough to be read; keep its text in ``texts``."""
    shown = trail[-1]
    for node in reversed(trail):
        if node not in texts and isinstance(node, _READABLE):
            texts[node] = _text(node)
        if node is not shown and (not isinstance(node, _READABLE) or len(texts[node]) > CONTEXT_CHARS_MAX):
            break
        shown = node
    texts.setdefault(shown, _text(shown))
    return shown


_READABLE: Final = (ast.expr, ast.keyword, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)


def _changes(node: ast.AST, above: Trail) -> Iterator[tuple[_Change, Trail]]:
    trail = (*above, node)
    for field, value in ast.iter_fields(node):
        if field in _UNTOUCHED or (isinstance(node, ast.ClassDef) and field in {"bases", "keywords"}):
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            for new in _instead_of(child, node, field):
                yield _Change(node, field, index, new), (*trail, child)
            yield from _changes(child, trail)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()):  # a docstring or an ellipsis
            return True
        case ast.Subscript(value=ast.Name(id=name)) | ast.Call(func=ast.Name(id=name)):
            return name in _TYPES_ONLY
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__")]):
            return True
    return False


def _instead_of(node: ast.AST, holder: ast.AST, field: str) -> Iterator[ast.AST | None]:
    """Return what may stand in a node's place."""
    is_test = field in {"test", "ifs"} or (field == "guard" and isinstance(holder, ast.match_case))
    if is_test and not isinstance(node, ast.Constant):
        yield ast.Constant(value=False)
        if not isinstance(holder, ast.While):  # an endless loop proves little and takes long
            yield ast.Constant(value=True)
    match node:
        case ast.Constant(value=value):
            if not isinstance(holder, ast.JoinedStr):
                yield from (ast.Constant(value=other) for other in _other_values(value))
        case ast.Compare():
            yield from _compared(node, is_test=is_test)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(op=ast.Or() if isinstance(op, ast.And) else ast.And(), values=values)
            for place in range(len(values)):
                yield ast.BoolOp(op=op, values=rest) if len(rest := _without(values, place)) > 1 else rest[0]
        case ast.UnaryOp(operand=operand) if not isinstance(node.op, ast.UAdd):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            yield ast.BinOp(left=left, op=_ARITHMETIC[type(op)](), right=right)
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in _ARITHMETIC:
            yield ast.AugAssign(target=target, op=_ARITHMETIC[type(op)](), value=value)
        case ast.Name(id=name) if field == "func" and name in _OTHER:
            yield ast.Name(id=_OTHER[name], ctx=ast.Load())
        case ast.Attribute(value=value, attr=name) if field == "func" and name in _OTHER:
            yield ast.Attribute(value=value, attr=_OTHER[name], ctx=ast.Load())
        case ast.Slice(lower=lower, upper=upper, step=step):
            if lower is not None:
                yield ast.Slice(lower=None, upper=upper, step=step)
            if upper is not None:
                yield ast.Slice(lower=lower, upper=None, step=step)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(value=ast.Constant(value=None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
    if isinstance(node, _FORGOTTEN) and not (isinstance(node, ast.Raise) and _is_all_of(holder, field)):
        yield ast.Pass()
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple):
        yield ast.Pass()


def _is_all_of(holder: ast.AST, field: str) -> bool:
    """Return whether an ``if`` holds only this statement: its condition as ``False`` removes the statement, too."""
    return isinstance(holder, ast.If) and len(getattr(holder, field)) == 1


def _without(values: list[ast.expr], place: int) -> list[ast.expr]:
    return values[:place] + values[place + 1 :]


def _compared(node: ast.Compare, *, is_test: bool) -> Iterator[ast.AST]:
    for place, op in enumerate(node.ops):
        others = _COMPARISONS[type(op)]
        for other in others[:-1] if is_test and len(node.ops) == 1 else others:  # the last one inverts it
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield ast.Compare(left=node.left, ops=ops, comparators=node.comparators)


def _other_values(value: object) -> tuple[object, ...]:
    match value:
        case bool():
            return (not value,)
        case int():
            return value + 1, value - 1
        case float():
            return (value * 2, value / 2) if value else (1.0,)
        case str():
            return () if _PROSE.search(value) else (f"{value}X" if value else "X",)
        case bytes():
            return (value + b"X",)
    return ()
