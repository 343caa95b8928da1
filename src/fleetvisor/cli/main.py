"""The program ``fleetvisor``: its commands, and how what goes wrong becomes a message and an exit status.

Deliberately does nothing itself: each command is a function of a module beside this one, which imports what is
heavy only when it runs. Exit codes: ``docs/reference/cli.md``.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from fleetvisor import __version__
from fleetvisor.cli import (
    accounts,
    agent,
    apps,
    auth_token,
    configs,
    credentials,
    demo,
    deploy,
    device_changes,
    devices,
    doctor,
    enrollment,
    env,
    events,
    explain,
    gateway,
    keys,
    rollouts,
    seal,
    simulate,
)
from fleetvisor.cli.options import Data, ExitCode, Failure, Json, Options, Quiet, Session, command, plain_words
from fleetvisor.cli.output import Output
from fleetvisor.cli.serve import serve
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.credentials import NoServer
from fleetvisor.ground.errors import Problem

PROGRAM = "fleetvisor"
_STATUS_CODES = {
    401: ExitCode.AUTHENTICATION,
    403: ExitCode.AUTHENTICATION,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    429: ExitCode.RATE_LIMITED,
}

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fleetvisor: firmware updates for fleets of devices, through the Microvisor REST API.",
    epilog="Exit status: 0 done · 1 failed · 2 wrong usage · 3 not found · 4 authentication · 5 conflict"
    " · 6 rate-limited · 7 server fault or unreachable · 8 rollout stopped · 130 interrupted.",
)


def _version(asked: bool) -> None:
    if asked:
        Output().write(__version__)
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    data: Data = None,
    json: Json = False,
    quiet: Quiet = False,
    version: Annotated[  # noqa: ARG001  (its callback answers)
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.ensure_object(Options).heed(data, json, quiet)


@command(app, "version")
def version(session: Session) -> None:
    """Show the version of this program."""
    if session.out.json:
        session.out.record({"version": __version__})
    else:
        session.out.write(__version__)


_SERVER = "The server"
app.command("serve", rich_help_panel=_SERVER)(serve)
command(app, "doctor", rich_help_panel=_SERVER)(doctor.doctor)
command(app, "env", rich_help_panel=_SERVER)(env.env)
app.add_typer(seal.app, name="seal", rich_help_panel=_SERVER)

_FLEET = "The fleet"
command(devices.app, "update")(device_changes.update)
command(devices.app, "offer-again")(device_changes.offer_again)
command(devices.app, "forget-report")(device_changes.forget_report)
command(devices.app, "begin-anew")(device_changes.begin_anew)
command(devices.app, "request-attributes")(device_changes.request_attributes)
command(devices.app, "explain")(explain.explain)
command(devices.app, "updates")(explain.updates)
command(devices.app, "penalties")(explain.penalties)
app.add_typer(devices.app, name="devices", rich_help_panel=_FLEET)
app.add_typer(credentials.app, name="credentials", rich_help_panel=_FLEET)
app.add_typer(enrollment.app, name="enrollment", rich_help_panel=_FLEET)
app.add_typer(gateway.app, name="gateway", rich_help_panel=_FLEET)
app.add_typer(apps.app, name="apps", rich_help_panel=_FLEET)
command(app, "deploy", rich_help_panel=_FLEET)(deploy.deploy)
app.add_typer(rollouts.app, name="rollouts", rich_help_panel=_FLEET)
app.add_typer(configs.configs, name="configs", rich_help_panel=_FLEET)
app.add_typer(configs.secrets, name="secrets", rich_help_panel=_FLEET)
command(app, "events", rich_help_panel=_FLEET)(events.events)
app.add_typer(keys.app, name="keys", rich_help_panel=_FLEET)
app.add_typer(auth_token.app, name="auth-token", rich_help_panel=_FLEET)
app.add_typer(accounts.app, name="accounts", rich_help_panel=_FLEET)

_BOARDLESS = "Devices without boards"
command(app, "demo", rich_help_panel=_BOARDLESS)(demo.demo)
command(app, "simulate", rich_help_panel=_BOARDLESS)(simulate.simulate)
app.add_typer(agent.app, name="agent", rich_help_panel=_BOARDLESS)


def main() -> None:
    """Run the program and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding lacks is written as an escape
            stream.reconfigure(errors="backslashreplace")
    status = run(sys.argv[1:])
    _let_go_of_stdout()
    sys.exit(status)


def _let_go_of_stdout() -> None:
    """Write what is left; where that fails, it was told or nobody listens: Python must not tell it once more."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  (it was closed before the start)
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: Sequence[str]) -> int:
    """Run one command line; give its exit status, having told on stderr what went wrong."""
    options = Options()
    try:
        given = typer.main.get_command(app).main(list(arguments), PROGRAM, standalone_mode=False, obj=options)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except Exception as error:
        known = _known(_first(error))
        if known is None:
            raise
        if not known.detail:  # all was told already: the help of a group, or whoever listened has gone
            return known.code
        # A command line that could not be read may have asked for JSON all the same.
        out = Output(json=options.json or "--json" in arguments, quiet=options.quiet)
        out.problem(known.detail, known.hint, exit_code=int(known.code), **_numbers(error))
        return known.code
    return given if isinstance(given, int) else ExitCode.OK


def _first(error: Exception) -> Exception:
    """Return the first error of a group, such as of a swarm's tasks; any other as it is."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error


def _known(error: Exception) -> Failure | None:
    """Return the failure that an error means; ``None`` for one that is a fault of this program."""
    match error:
        case Failure():
            return error
        case ApiProblem(status=status):
            otherwise = ExitCode.SERVER if status >= 500 or status < 400 else ExitCode.FAILED
            return Failure(error.detail, error.hint, _STATUS_CODES.get(status, otherwise))
        case Unreachable():
            return Failure(error.detail, error.hint, ExitCode.SERVER)
        case NoServer():
            return Failure(error.detail, error.hint, ExitCode.SERVER if error.named else ExitCode.USAGE)
        case Problem():
            return Failure(error.detail, None)
        case typer.TyperException():
            return Failure(plain_words(error.format_message()), _usage(error), ExitCode(error.exit_code))
        case UnicodeEncodeError():
            return Failure("An argument is not valid UTF-8.", None, ExitCode.USAGE)
        case BrokenPipeError():
            return Failure("")
        case OSError(filename=filename, strerror=str(reason)) if filename:
            return Failure(f"{filename}: {reason}.")
        case OSError(errno=errno.ENOSPC | errno.EBADF | errno.EIO | errno.EFBIG | errno.EDQUOT, strerror=str(reason)):
            return Failure(f"Writing failed: {reason}.")
        case _:
            return None


def _usage(error: typer.TyperException) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
    return f"See: {path} --help"


def _numbers(error: Exception) -> dict[str, int]:
    return {"code": error.code, "status": error.status} if isinstance(error, ApiProblem) else {}


if __name__ == "__main__":
    main()
