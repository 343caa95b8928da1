"""Writes ``docs/reference/cli.md`` from the commands themselves: ``python -m scripts.cli_reference``.

``tests/unit/cli/test_reference.py`` fails when the file is not what this makes.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import typer

from fleetvisor.cli.main import PROGRAM, app

PAGE = Path(__file__).parents[1] / "docs/reference/cli.md"
SHARED = {"data", "json", "quiet", "help", "install_completion", "show_completion"}

INTRODUCTION = """\
# The command line

*This page is generated from the program (`python -m scripts.cli_reference`); `fleetvisor COMMAND --help` says the same.*

`fleetvisor` runs the server, talks to it through its REST API, makes bundles, and simulates devices.

## Which server, and as whom

| given | means |
|---|---|
| `--data DIR` | the server whose data directory `DIR` is, on this machine: address, account, token and CA are read from `DIR/credentials.json`; it calls the address the server listens on, and checks the certificate for the server's public name |
| `FLEETVISOR_URL` | the server's address: `https://host` or `https://host:port`, no path, no final slash |
| `FLEETVISOR_ACCOUNT_SID`, `FLEETVISOR_AUTH_TOKEN` | the account's SID and Auth Token, or an API key's SID (`SK…`) and secret |
| `FLEETVISOR_CA_FILE` | the CA that the server's certificate must come from; unset: the system's authorities |

`--data` wins over the environment. `eval "$(fleetvisor env --data DIR)"` sets the environment.

## Options of every command

`--data DIR`, `--json` and `--quiet` are taken before the command, after it, and after its arguments; where one is given twice, the
later counts. (`serve` has a `--data` of its own.)

- **`--json`** writes JSON on stdout: one document, or for lists one compact object per line, each exactly as the API sent it. Errors are one JSON
  object on stderr: `error`, `hint`, `exit_code`, and for a problem of the API its `code` and `status`. Notes are left out.
- **`--quiet`** keeps notes and progress away; data, warnings and errors stay.

Data goes to stdout, everything else to stderr. Control characters in names and values are written as escapes in tables. Colours are for terminals only;
`NO_COLOR` turns them off. Reading requests (GET) are tried again a few times when the connection is lost or the server asks for patience; changes never are.

## Exit status

| status | meaning |
|---|---|
| 0 | done |
| 1 | the operation failed (a value was refused, a device did not take its update, a bundle breaks a rule, some of several failed) |
| 2 | the command line is wrong, or names no server |
| 3 | not found |
| 4 | authentication failed, or this credential may not do this |
| 5 | conflict: a name or key exists, a thing is in use, a bound is reached, a server holds the lock |
| 6 | rate-limited |
| 7 | the server failed, cannot be reached, or is not trusted |
| 130 | interrupted: Ctrl-C |

## Shell completion

`fleetvisor --install-completion` sets it up for the shell it is called from (bash, zsh, fish, PowerShell); `fleetvisor --show-completion bash` prints the script.

## Commands
"""


def render() -> str:
    """Give the whole page."""
    root = typer.main.get_command(app)
    parts = [INTRODUCTION, *(section(path, command) for path, command in walk(root, PROGRAM))]
    return "\n".join(parts).rstrip() + "\n"


def walk(group, path: str) -> Iterator[tuple[str, object]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(path: str, command) -> str:
    own = [param for param in command.params if param.name not in SHARED or (path.endswith("serve") and param.name == "data")]
    arguments = [param for param in own if param.param_type_name == "argument"]
    options = [param for param in own if param.param_type_name == "option"]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(argument_usage(param) for param in arguments)])
    lines = [f"### `{path}`", "", f"    {usage}", "", paragraphs(command.help or ""), ""]
    rows = [(f"`{label(param)}`", param) for param in arguments]
    rows += [(f"`{option_usage(param)}`", param) for param in options]
    if rows:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {shown} | {about(param)} |" for shown, param in rows]
        lines.append("")
    return "\n".join(lines)


def paragraphs(text: str) -> str:
    """Give help text with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def label(param) -> str:
    return param.metavar or param.name.upper()


def argument_usage(param) -> str:
    return label(param) if param.required else f"[{label(param)}]"


def option_usage(param) -> str:
    names = "/".join([*param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} {label(param)}"


def about(param) -> str:
    text = " ".join((param.help or "").split()).replace("|", r"\|")
    default = param.default
    if param.required and param.param_type_name == "option":
        return f"{text} Required."
    if param.param_type_name == "option" and not param.is_flag and default is not None and not callable(default):
        return f"{text} Default: `{default}`."
    return text


if __name__ == "__main__":
    PAGE.write_text(render())
