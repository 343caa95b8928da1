"""Writes ``docs/reference/cli.md`` from the commands themselves: ``python -m scripts.cli_reference``.

``tests/unit/cli/test_reference.py`` fails when the file is not what this makes.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from fleetvisor.cli.main import PROGRAM, app

Param = TyperArgument | TyperOption
PAGE = Path(__file__).parents[1] / "docs/reference/cli.md"
SHARED = {"data", "json", "quiet", "help", "install_completion", "show_completion"}

INTRODUCTION = Path(__file__).with_name("cli_introduction.md")


def render() -> str:
    """Give the whole page."""
    root = typer.main.get_command(app)
    parts = [INTRODUCTION.read_text(), *(section(path, command) for path, command in walk(root, PROGRAM))]
    return "\n".join(parts).rstrip() + "\n"


def walk(group: TyperGroup, path: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(path: str, command: TyperCommand) -> str:
    own = [param for param in command.params if param.name not in SHARED]
    arguments = [param for param in own if param.param_type_name == "argument"]
    options = [param for param in own if param.param_type_name == "option"]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(argument_usage(param) for param in arguments)])
    lines = [f"### `{path}`", "", f"    {usage}", "", paragraphs(command.help or ""), ""]
    rows = [(f"`{label(param)}`", param) for param in arguments]
    rows += [(f"`{option_usage(param)}`", param) for param in options]
    if rows:
        lines += ["| | |", "|---|---|"]
        lines += ["| {} | {} |".format(shown.replace("|", r"\|"), about(param)) for shown, param in rows]
        lines.append("")
    return "\n".join(lines)


def paragraphs(text: str) -> str:
    """Give help text with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def label(param: Param) -> str:
    return param.metavar or param.name.upper()


def argument_usage(param: Param) -> str:
    return label(param) if param.required else f"[{label(param)}]"


def option_usage(param: Param) -> str:
    names = "/".join([*param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} {label(param)}"


def about(param: Param) -> str:
    text = " ".join((param.help or "").split()).replace("|", r"\|")
    default = param.default
    if param.required and param.param_type_name == "option":
        return f"{text} Required."
    if param.param_type_name == "option" and not param.is_flag and default is not None and not callable(default):
        return f"{text} Default: `{default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(render())
