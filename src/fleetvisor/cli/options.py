"""The options that every command takes, before its name or after it, and how a command is registered.

``@command(app, "name")`` adds ``--data``, ``--json`` and ``--quiet`` to a function whose first parameter is the
``Session``. Deliberately the only module that knows how Typer sees a function's signature.
Exit codes: ``docs/reference/cli.md``.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, Self

import typer

from fleetvisor.cli.output import Output
from fleetvisor.client import credentials
from fleetvisor.client.credentials import Server
from fleetvisor.client.explanations import Explanations
from fleetvisor.client.identity import Identity
from fleetvisor.client.operators import Operators
from fleetvisor.client.resources import Client
from fleetvisor.client.rollouts import Rollouts

if TYPE_CHECKING:
    from fleetvisor.client.http import Http

P = ParamSpec("P")
PANEL = "Options of every command"


def read_path(text: str) -> Path:
    """Return a path. Raises ``BadParameter`` for an empty one, which would be the current directory."""
    if not text:
        raise typer.BadParameter("the path is empty; write . for the current directory.")
    return Path(text)


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        parser=read_path,
        metavar="DIR",
        help="The data directory of a server on this machine; without it, FLEETVISOR_URL, FLEETVISOR_ACCOUNT_SID,"
        " FLEETVISOR_AUTH_TOKEN and FLEETVISOR_CA_FILE name the server.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Write JSON: one document, or for lists one object per line.", rich_help_panel=PANEL),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only data, warnings and errors.", rich_help_panel=PANEL)]
AppRef = Annotated[str, typer.Argument(metavar="APP", help="An app's SID or unique name.", show_default=False)]
Purpose = Annotated[str | None, typer.Argument(help="What it is for; does not have to be unique.", show_default=False)]
Newest = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Show only the newest N.", show_default=False)
]


#: What pydantic says of a value, and the same in words of a command line.
_PLAIN: Final = (
    ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "must be a number"),
    ("Input should be ", "must be "),
    ("less than or equal to ", "at most "),
    ("greater than or equal to ", "at least "),
)


def plain_words(message: str) -> str:
    """Return what a check of a value said, in words that speak of an option."""
    message = message.removeprefix("Value error, ")
    for theirs, ours in _PLAIN:
        message = message.replace(theirs, ours)
    return message


class ExitCode(IntEnum):
    """What a command's exit status tells."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTHENTICATION = 4
    CONFLICT = 5
    RATE_LIMITED = 6
    SERVER = 7
    STOPPED = 8
    INTERRUPTED = 130


class Failure(Exception):
    """The command could not do what was asked; ``code`` is its exit status."""

    def __init__(self, detail: str, hint: str | None = None, code: ExitCode = ExitCode.FAILED) -> None:
        """Keep what went wrong and what to do, each a sentence for people."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.code = code


class Usage(Failure):
    """The command was not called as it must be."""

    def __init__(self, detail: str, hint: str | None = None) -> None:
        """Keep what is wrong with the call."""
        super().__init__(detail, hint, ExitCode.USAGE)


@dataclass(slots=True)
class Options:
    """What the options of every command said so far; one per run of the program."""

    data: Path | None = None
    json: bool = False
    quiet: bool = False

    def heed(self, data: Path | None, json: bool, quiet: bool) -> None:
        """Take what was given; what was not stays."""
        self.data = data or self.data
        self.json = json or self.json
        self.quiet = quiet or self.quiet


class Session:
    """What a command works with: its output, and the server once it asks for it."""

    def __init__(self, options: Options) -> None:
        """Start with ``options``; connects to nothing."""
        self.data = options.data
        self.out = Output(json=options.json, quiet=options.quiet)
        self._http: Http | None = None

    @functools.cached_property
    def server(self) -> Server:
        """Find the server. Raises ``NoServer``."""
        return credentials.find(self.data)

    @property
    def http(self) -> "Http":
        """Return the connection to the server."""
        if self._http is None:
            import stamina.instrumentation

            from fleetvisor.client.http import Http

            # A retry is nobody's data, and the library would write its log lines to stdout.
            stamina.instrumentation.set_on_retry_hooks([])
            self._http = Http(self.server)
        return self._http

    @functools.cached_property
    def client(self) -> Client:
        """Return the API."""
        return Client(self.http)

    @functools.cached_property
    def operators(self) -> Operators:
        """Return the part of the API that is about operators."""
        return Operators(self.http)

    @functools.cached_property
    def identity(self) -> Identity:
        """Return the part of the API that is about what proves devices."""
        return Identity(self.http)

    @functools.cached_property
    def explanations(self) -> Explanations:
        """Return the part of the API that explains devices."""
        return Explanations(self.http)

    @functools.cached_property
    def rollouts(self) -> Rollouts:
        """Return the part of the API that is about rollouts."""
        return Rollouts(self.http)

    def close(self) -> None:
        """Let go of the connection."""
        if self._http is not None:
            self._http.close()


class OptionSet:
    """Options that several commands share: a dataclass, each field an option, or a set of its own.

    A command takes them all as one parameter, annotated with the class.
    """

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """Return the options as a function would declare them."""
        return _expanded(inspect.signature(cls, eval_str=True).parameters.values())

    @classmethod
    def read(cls, given: dict[str, Any]) -> Self:
        """Take what is given for these options out of ``given``."""
        return cls(**_gathered(inspect.signature(cls, eval_str=True).parameters.values(), given))


def _set_of(parameter: inspect.Parameter) -> type[OptionSet] | None:
    kind = parameter.annotation
    return kind if isinstance(kind, type) and issubclass(kind, OptionSet) else None


def _expanded(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    found: list[inspect.Parameter] = []
    for parameter in parameters:
        options = _set_of(parameter)
        found += [parameter] if options is None else options.parameters()
    return found


def _gathered(parameters: Iterable[inspect.Parameter], given: dict[str, Any]) -> dict[str, Any]:
    sets = ((parameter, _set_of(parameter)) for parameter in parameters)
    return {one.name: given.pop(one.name) if options is None else options.read(given) for one, options in sets}


Command = Callable[Concatenate[Session, P], None]


def command(app: typer.Typer, name: str, **extra: Any) -> Callable[[Command[P]], Command[P]]:  # noqa: ANN401
    """Register a function, whose first parameter is the ``Session``, as the command ``name`` of ``app``.

    ``extra`` goes to Typer. The function itself is given back as it was.
    """

    def register(function: Command[P]) -> Command[P]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(ctx: typer.Context, data: Path | None, json: bool, quiet: bool, **rest: Any) -> None:  # noqa: ANN401
            options = ctx.ensure_object(Options)
            options.heed(data, json, quiet)
            session = Session(options)
            try:
                function(session, **_gathered(own, rest))  # pyright: ignore[reportCallIssue]  (Typer passes what it read from it)
            finally:
                session.close()

        _sign(run, own)
        extra.setdefault("help", _paragraphs(function.__doc__ or ""))
        app.command(name, **extra)(run)
        return function

    return register


def _paragraphs(text: str) -> str:
    """Return a docstring with each paragraph on one line, for a terminal of any width to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def group(about: str) -> typer.Typer:
    """Make a group of commands, which takes the options of every command too."""
    made = typer.Typer(no_args_is_help=True, help=about)

    @made.callback()
    def heed(ctx: typer.Context, data: Data = None, json: Json = False, quiet: Quiet = False) -> None:
        """Take the options of every command."""
        ctx.ensure_object(Options).heed(data, json, quiet)

    return made


def _sign(run: Callable[..., None], own: Iterable[inspect.Parameter]) -> None:
    """Set the signature of ``run``: a command's ``own`` parameters, and the options of every command."""
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("ctx", kind, annotation=typer.Context),
        inspect.Parameter("data", kind, default=None, annotation=Data),
        inspect.Parameter("json", kind, default=False, annotation=Json),
        inspect.Parameter("quiet", kind, default=False, annotation=Quiet),
    ]
    parameters = [parameter.replace(kind=kind) for parameter in _expanded(own)] + shared
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
