"""The options of every command: before the command, after it, and between group and command."""

from pathlib import Path

import pytest
import typer

from fleetvisor.cli.options import Data, Json, Options, Quiet, Session, command, group, plain_words


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
