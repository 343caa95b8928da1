"""The settings of a rollout's guard as form parameters, by their rules in ``protocol/guard_settings``. Pure."""

from typing import Final

from fleetvisor.api.forms import find_bounded, find_flag, find_text
from fleetvisor.api.routes import Param
from fleetvisor.features.rollouts.rules import parse_ppm
from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol.guard_settings import MILLION, SETTINGS, GuardSettings, Kind, Setting, Value
from fleetvisor.web.requests import Fields

_TYPES: Final[dict[Kind, str]] = {"number": "integer", "seconds": "integer", "flag": "boolean"}


def _param(setting: Setting) -> Param:
    unit = " In seconds." if setting.rule.kind == "seconds" else ""
    about = f"{setting.rule.about}{unit} Default: {setting.default}."
    return Param(setting.parameter, about, _TYPES.get(setting.rule.kind, "string"), extension=True)


PARAMS: Final = tuple(_param(setting) for setting in SETTINGS)


def parse(form: Fields) -> GuardSettings:
    """Return the settings that a form gives, with the usual values of the others. Raises ``Invalid``."""
    return GuardSettings(**{setting.name: _parse(form, setting) for setting in SETTINGS})  # pyright: ignore[reportArgumentType]


def _parse(form: Fields, setting: Setting) -> Value:
    name, rule = setting.parameter, setting.rule
    match rule.kind:
        case "number" | "seconds":
            return find_bounded(form, name, int(setting.usual), rule.most)
        case "flag":
            given = find_flag(form, name)
            return setting.usual if given is None else given
        case "share":
            text = find_text(form, name)
            return setting.usual if not text else _parse_share(text, setting)
        case "choice":
            text = find_text(form, name) or str(setting.usual)
            if text not in rule.choices:
                raise Invalid(f"{name} must be {', '.join(rule.choices[:-1])} or {rule.choices[-1]}.")
            return text


def _parse_share(text: str, setting: Setting) -> float:
    rule = setting.rule
    ppm = parse_ppm(text, setting.parameter)
    if not rule.least <= ppm <= rule.most:
        bounds = " and ".join(setting.spell(ppm / MILLION) for ppm in (rule.least, rule.most))
        raise Invalid(f"{setting.parameter} must be between {bounds}.")
    return ppm / MILLION
