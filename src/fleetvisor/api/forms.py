"""Form parameters as the API defines them: UpperCamelCase, case-sensitive, each at most once.

Names that nobody asks for are ``parameters``' to judge. Pure.
"""

from datetime import UTC, date, datetime
from typing import Final

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.errors import Invalid
from fleetvisor.web.requests import Fields

_DIGITS_MAX: Final = 12


def find_text(form: Fields, name: str) -> str | None:
    """Return a parameter; ``None`` when it is absent. Raises ``Invalid`` when it is repeated."""
    values = form.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise Invalid(f"{name} is given {len(values)} times; give it once.")
    return next(iter(values))


def all_texts(form: Fields, name: str) -> tuple[str, ...]:
    """Return every value of a parameter that may be repeated, in order."""
    return tuple(form.get(name) or ())


def find_number(form: Fields, name: str, default: int) -> int:
    """Return a whole number, not below 0; ``default`` when it is absent. Raises ``Invalid``."""
    text = find_text(form, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"{name} must be a whole number, not below 0.")
    if len(text) > _DIGITS_MAX:
        raise Invalid(f"{name} must have at most {_DIGITS_MAX} digits.")
    return int(text)


def find_bounded(form: Fields, name: str, default: int, most: int) -> int:
    """Return a whole number from 0 to ``most``; ``default`` when it is absent. Raises ``Invalid``."""
    number = find_number(form, name, default)
    if number > most:
        raise Invalid(f"{name} must be at most {most}.")
    return number


def get_text(form: Fields, name: str) -> str:
    """Return a parameter that must be there. Raises ``Invalid``."""
    value = find_text(form, name)
    if value is None:
        raise Invalid(f"{name} is missing; parameter names are case-sensitive.")
    return value


def find_flag(form: Fields, name: str) -> bool | None:
    """Return a boolean parameter: ``true`` or ``false`` in any case. Raises ``Invalid``."""
    value = find_text(form, name)
    if value is None:
        return None
    flag = {"true": True, "false": False}.get(value.lower())
    if flag is None:
        raise Invalid(f"{name} must be true or false.")
    return flag


def find_selector(fields: Fields) -> str | None:
    """Return Selector, trimmed; ``None`` when it is absent. Raises ``Invalid`` when it is empty."""
    text = find_text(fields, "Selector")
    if text is not None and not text.strip():
        raise Invalid("Selector is empty. Say which Devices, as in site=graz; * selects all of them.")
    return None if text is None else text.strip()


def find_moment(form: Fields, name: str, *, is_exact: bool = False) -> Millis | None:
    """Return a time of the years 1 to 9999 of UTC: ISO 8601, of UTC where it names no zone; ``None`` when it is absent.

    A day is its beginning, unless ``is_exact``. Raises ``Invalid``.
    """
    text = find_text(form, name)
    if text is None:
        return None
    if is_exact and _is_day(text):
        raise Invalid(f"{name} is a day without a time: write it as 2026-01-31T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return Millis(round(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        day = "" if is_exact else ", or a day such as 2026-01-31"
        raise Invalid(f"{name} must be a time such as 2026-01-31T12:00:00Z{day}.") from None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
