"""The settings of a rollout's guard, each in one place: name, default, bounds, and the sentence that explains it. Pure.

The API's parameters and JSON, the database's column, the options of the command line, the client and the reference page
are made from ``SETTINGS``. To add a setting, add a field to ``GuardSettings``, and use it where the guard decides.
NOTE: the names are published, and stored: a new field needs a default, which rollouts of before get.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec

from fleetvisor.ground.durations import spell

MILLION: Final = 1_000_000
_NUMBER_MAX: Final = 10_000_000
_SECONDS_MAX: Final = 366 * 24 * 3600
_PPM_MAX: Final = MILLION - 1

Value = float | int | str | bool
Kind = Literal["share", "number", "seconds", "choice", "flag"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting means, and which values it takes. ``least`` and ``most`` of a share are in millionths."""

    kind: Kind
    about: str
    least: int = 0
    most: int = _NUMBER_MAX
    choices: tuple[str, ...] = ()
    option: str | None = None


def _seconds(about: str) -> Rule:
    return Rule("seconds", about, most=_SECONDS_MAX)


class GuardSettings(msgspec.Struct, frozen=True):
    """What a guard goes by: rates are shares, times are seconds."""

    limit: Annotated[float, Rule("share", "The highest acceptable failure rate.", most=MILLION)] = 0.05
    confidence: Annotated[
        float, Rule("share", "The confidence of the guard's bounds.", least=MILLION // 2, most=_PPM_MAX)
    ] = 0.95
    minimum_sample: Annotated[
        int, Rule("number", "How many devices must be decided before the bounds apply.", option="min-sample")
    ] = 5
    soak: Annotated[int, _seconds("How long to wait after a wave before the next wave.")] = 600
    silent_after: Annotated[
        int, _seconds("How long a device may send no report, after it began to install, until it counts as silent.")
    ] = 1800
    offline_after: Annotated[
        int, _seconds("After how long the rollout no longer waits for a device that has not fetched its update.")
    ] = 86_400
    on_unproven: Annotated[
        str,
        Rule(
            "choice",
            "What to do with an unproven wave over the limit.",
            choices=("hold", "stop", "release"),
        ),
    ] = "hold"
    require_proof: Annotated[
        bool, Rule("flag", "Hold an unproven wave within the limit. Without it, the guard releases the wave.")
    ] = False

    @property
    def limit_ppm(self) -> int:
        """Return the highest failure rate that is acceptable, in millionths: exact, where a share is not."""
        return round(self.limit * MILLION)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the guard; ``name`` is its name in JSON."""

    name: str
    rule: Rule
    usual: Value

    @property
    def parameter(self) -> str:
        """Return its name as a form parameter."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def option(self) -> str:
        """Return its name as an option of the command line."""
        return f"--{self.rule.option or self.name.replace('_', '-')}"

    @property
    def default(self) -> str:
        """Return its usual value as a form parameter."""
        return self.spell(self.usual) if self.rule.kind == "share" else _form_text(self.usual)

    def spell(self, value: Value) -> str:
        """Return a value as people write it."""
        match self.rule.kind:
            case "share":
                return f"{float(value) * 100:.6g}%"
            case "seconds":
                return spell(int(value))
            case "flag":
                return "yes" if value else "no"
            case "number" | "choice":
                return str(value)


def _settings() -> tuple[Setting, ...]:
    hints = get_type_hints(GuardSettings, include_extras=True)
    usual = GuardSettings()
    return tuple(
        Setting(name, get_args(hints[name])[1], getattr(usual, name)) for name in GuardSettings.__struct_fields__
    )


SETTINGS: Final = _settings()
_PARAMETERS: Final = {setting.name: setting.parameter for setting in SETTINGS}


def render_form(chosen: Mapping[str, Value]) -> dict[str, str]:
    """Return settings by name as form parameters. Raises ``KeyError`` for a name that is no setting."""
    return {_PARAMETERS[name]: _form_text(value) for name, value in chosen.items()}


def _form_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe(settings: GuardSettings) -> str:
    """Return all settings in one line for people."""
    values: dict[str, Any] = msgspec.structs.asdict(settings)
    return ", ".join(f"{setting.name.replace('_', ' ')} {setting.spell(values[setting.name])}" for setting in SETTINGS)
