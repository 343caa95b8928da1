"""The options of every command: before the command, after it, and between group and command."""

import ast
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import pytest
import typer

from fleetvisor.cli import options
from fleetvisor.cli.options import Data, Json, Options, OptionSet, Quiet, Session, command, group, plain_words

SOURCES = sorted(Path(options.__file__).parent.glob("*.py"))
#: How many parameters two commands may both declare. Those that share more take an ``OptionSet``.
SHARED_MAX = 3


@pytest.fixture
def run():
    seen = []
    app = typer.Typer()

    @app.callback()
    def root(ctx: typer.Context, data: Data = None, json: Json = False, quiet: Quiet = False) -> None:
        ctx.ensure_object(Options).heed(data, json, quiet)

    things = group("Things.")
    app.add_typer(things, name="things")

    @command(things, "show")
    def show(session: Session, name: str = typer.Argument(), count: int = 1) -> None:
        """Show."""
        seen.append((session.data, session.out.json, session.out.quiet, name, count))

    def call(*arguments):
        typer.main.get_command(app).main(list(arguments), "program", standalone_mode=False, obj=Options())
        return seen.pop()

    return call


@pytest.mark.parametrize(
    "line",
    [
        "--data D --json --quiet things show x",
        "things --data D --json --quiet show x",
        "things show --data D --json --quiet x",
        "things show x --data D --json --quiet",
        "--json things --quiet show x --data D",
    ],
)
def test_they_are_taken_at_every_place(run, line):
    assert run(*line.split()) == (Path("D"), True, True, "x", 1)


def test_the_one_nearest_to_the_end_counts(run):
    assert run(*["--data", "A", "things", "show", "x", "--data", "B"])[0] == Path("B")


def test_the_command_keeps_its_own_parameters(run):
    assert run(*["things", "show", "x", "--count", "3"]) == (None, False, False, "x", 3)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
        ("Input should be less than or equal to 65535", "must be at most 65535"),
        ("Input should be 'debug' or 'info'", "must be 'debug' or 'info'"),
        ("Value error, it is so", "it is so"),
    ],
)
def test_what_a_check_of_a_value_says_becomes_words_of_a_command_line(theirs, ours):
    assert plain_words(theirs) == ours


@dataclass(frozen=True, kw_only=True)
class Inner(OptionSet):
    size: Annotated[int, typer.Option("--size")] = 1


@dataclass(frozen=True, kw_only=True)
class Outer(OptionSet):
    colour: Annotated[str, typer.Option("--colour")] = "red"
    inner: Inner
    is_round: Annotated[bool, typer.Option("--round")] = False


def test_a_set_of_options_is_declared_once_and_arrives_as_one_value():
    app, seen = typer.Typer(), []

    @command(app, "paint")
    def paint(session: Session, thing: str, outer: Outer) -> None:
        """Paint."""
        seen.append((thing, outer))

    main = typer.main.get_command(app)
    for arguments in (["ball"], ["ball", "--size", "3", "--round", "--json"]):
        main.main(arguments, "program", standalone_mode=False, obj=Options())
    assert seen == [("ball", Outer(inner=Inner())), ("ball", Outer(inner=Inner(size=3), is_round=True))]
    assert [parameter.name for parameter in main.params][:4] == ["thing", "colour", "size", "is_round"]


def test_no_option_is_written_twice():
    """The second command takes the name of the first one's option."""
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    options = [ast.unparse(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    written = Counter(text for text in options if text.startswith("Annotated[") and "typer." in text)
    assert [text for text, count in written.items() if count > 1] == []


def test_commands_that_share_many_options_take_them_as_a_set():
    functions = [
        (
            f"{path.name} {node.name}",
            {
                (one.arg, ast.unparse(one.annotation))
                for one in [*node.args.args, *node.args.kwonlyargs]
                if one.annotation
            },
        )
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and any(one.arg == "session" for one in node.args.args)
    ]
    assert len(functions) > 60
    pairs = {
        (first, second): sorted(name for name, _ in one & other if name != "session")
        for (first, one), (second, other) in combinations(functions, 2)
    }
    assert {pair: names for pair, names in pairs.items() if len(names) > SHARED_MAX} == {}
