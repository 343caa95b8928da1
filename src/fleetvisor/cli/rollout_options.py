"""The options of a new rollout, which ``create`` and ``rollback`` share; those of the guard are made from its settings.

An option that is absent is not sent: the server has the defaults, and the help names them.
"""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import typer

from fleetvisor.cli.durations import parse_seconds
from fleetvisor.cli.options import OptionSet
from fleetvisor.client.rollouts import Wanted
from fleetvisor.protocol.guard_settings import SETTINGS, Setting, Value

Ref = Annotated[str, typer.Argument(metavar="RO", help="A rollout's SID.", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="What it is for.", show_default=False)]
Waves = Annotated[
    str | None,
    typer.Option(
        "--waves",
        metavar="SIZES",
        help="How far each wave goes: 1%,10%,50%,100% if absent (a rollback: 100%); numbers of devices too.",
        show_default=False,
    ),
]
MaxConcurrent = Annotated[
    int | None,
    typer.Option(
        "--max-concurrent",
        metavar="N",
        help="How many of its updates may be open at one time; 0: any number.",
        show_default=False,
    ),
]
StartsPerMinute = Annotated[
    int | None,
    typer.Option(
        "--starts-per-minute",
        metavar="N",
        help="How many updates it may start in a minute; 0: any number.",
        show_default=False,
    ),
]
KnownSince = Annotated[
    str | None,
    typer.Option(
        "--known-since",
        metavar="TIME",
        help="Only devices created before this time count as evidence; the rollout's start if absent.",
        show_default=False,
    ),
]
Start = Annotated[bool, typer.Option("--start", help="Start it at once.")]
StartAt = Annotated[
    str | None,
    typer.Option("--start-at", metavar="TIME", help="Start it then: 2026-01-31T12:00:00Z.", show_default=False),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="S", help="Give up after S seconds.", show_default=False)
]


class GuardOptions(OptionSet):
    """The options that set the guard, made of ``guard_settings.SETTINGS``."""

    def __init__(self, given: dict[str, Value]) -> None:
        """Keep the settings that are given, by name."""
        self.given: Final = given

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """Return an option for each setting."""
        return [_parameter(setting) for setting in SETTINGS]

    @classmethod
    def read(cls, given: dict[str, Any]) -> Self:
        """Take the settings out of ``given``. Raises ``Usage`` for what is no duration."""
        found = {setting.name: _value(setting, given.pop(setting.name)) for setting in SETTINGS}
        return cls({name: value for name, value in found.items() if value is not None})


def _parameter(setting: Setting) -> inspect.Parameter:
    rule, kind = setting.rule, inspect.Parameter.KEYWORD_ONLY
    if rule.kind == "flag":
        flag = Annotated[bool, typer.Option(setting.option, help=rule.about)]
        return inspect.Parameter(setting.name, kind, default=False, annotation=flag)
    metavar = {"share": "PERCENT", "number": "N", "seconds": "TIME", "choice": "|".join(rule.choices)}[rule.kind]
    about = f"{rule.about} If absent: {setting.spell(setting.usual)}."
    option = typer.Option(setting.option, metavar=metavar, help=about, show_default=False)
    annotation = Annotated[int | None, option] if rule.kind == "number" else Annotated[str | None, option]
    return inspect.Parameter(setting.name, kind, default=None, annotation=annotation)


def _value(setting: Setting, given: Any) -> Value | None:  # noqa: ANN401  (what Typer read)
    match setting.rule.kind:
        case "seconds":
            return parse_seconds(given, setting.option)
        case "flag":
            return given or None
        case "share" | "number" | "choice":
            return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace(OptionSet):
    """How many devices are updated at a time; can be changed while the rollout is under way."""

    max_concurrent: MaxConcurrent = None
    starts_per_minute: StartsPerMinute = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRollout(OptionSet):
    """The options of a new rollout, which ``create`` and ``rollback`` share."""

    waves: Waves = None
    name: Name = None
    guard: GuardOptions
    pace: Pace
    known_since: KnownSince = None
    start: Start = False
    start_at: StartAt = None

    @property
    def wanted(self) -> Wanted:
        """Return what the options say, in the words of the API."""
        return Wanted(
            name=self.name,
            waves=self.waves,
            guard=self.guard.given,
            concurrent_max=self.pace.max_concurrent,
            starts_per_minute=self.pace.starts_per_minute,
            known_since=self.known_since,
        )
