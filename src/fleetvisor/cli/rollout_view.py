"""How a rollout is shown to people: its facts, a table of its waves, and the picture that ``watch`` renews.

Pure: it is given a ``Rollout`` as the API has it, and asks nobody. Deliberately no judgement of its own: the rate,
its bounds, the sentence of the guard and what is waited for are the server's words.
"""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from fleetvisor.cli.devices import reason
from fleetvisor.cli.output import STYLES, cell, clean
from fleetvisor.client.rollouts import EVERYTHING, Decision, Rollout, RolloutDevice, Wave
from fleetvisor.protocol.guard_settings import describe

# What a bar is drawn with, in the order of a bar: a glyph for each state, so that it can be read without colours.
GLYPHS: Final = {
    "succeeded": "█",
    "unchanged": "▓",
    "failed": "X",
    "silent": "?",
    "updating": "▒",
    "offline": "·",
    "left": "-",
    "canceled": "-",
    "skipped": "-",
}
_COLOURS: Final = {
    "succeeded": "green",
    "unchanged": "green",
    "failed": "red",
    "silent": "magenta",
    "updating": "yellow",
    "offline": "bright_black",
}
_COUNTED: Final = ("succeeded", "failed", "silent", "updating", "offline")
BAR: Final = 30
_FLOOR: Final = 0.001


def percent(rate: float) -> str:
    """Render a rate with the digits that say something: a thousandth is the least."""
    if 0 < rate < _FLOOR:
        return "under 0.1 %"
    if 1 - _FLOOR < rate < 1:
        return "over 99.9 %"
    return f"{rate * 100:.3g} %"


def counted(counts: Mapping[str, int]) -> str:
    """Say how many devices are in each state that any is in."""
    told = [f"{counts[state]:,} {state}" for state in GLYPHS if counts.get(state)]
    told += [f"{count:,} {state}" for state, count in counts.items() if count and state not in GLYPHS]
    return ", ".join(told) or "none yet"


def rate(rollout: Rollout) -> str:
    """Say how high the failure rate is, between which bounds, and what its limit is."""
    guard = rollout.guard
    seen = "none yet" if rollout.failure_rate is None else percent(rollout.failure_rate)
    between = f"{percent(rollout.failure_rate_lower)} to {percent(rollout.failure_rate_upper)}"
    return f"{seen} ({between} at {guard.confidence * 100:.6g} % confidence; limit {guard.limit * 100:.6g} %)"


def place(rollout: Rollout) -> str:
    """Say which wave is open."""
    return f"{rollout.wave} of {len(rollout.waves)}"


def waiting(rollout: Rollout) -> str | None:
    """Say what is waited for, and until when."""
    waits = rollout.waits_for
    if waits is None:
        return None
    return waits.sentence if waits.until is None else f"{waits.sentence} Until {waits.until}."


def standing(rollout: Rollout) -> Decision | None:
    """Return the last decision while it says something: nothing holds or waits for a soak once an operator aborted."""
    return None if rollout.state == "aborted" else rollout.decision


def subject(rollout: Rollout, app: str | None) -> str:
    """Say what a rollout does; ``app`` is what people call its app."""
    if rollout.kind == "rollback":
        return f"rollback of {rollout.rollback_of}"
    return f"{rollout.kind} of {app}"


def selection(rollout: Rollout) -> str:
    """Return which devices a rollout is for, in words where no selector says it."""
    if rollout.kind == "rollback" and not rollout.selector:
        return f"(the devices of {rollout.rollback_of})"
    return "(every device)" if rollout.selector in {"", EVERYTHING} else rollout.selector


def facts(rollout: Rollout, app: str | None) -> dict[str, Any]:
    """Return what is worth reading of a rollout, without its waves, for ``Output.record``."""
    told: dict[str, Any] = {
        "sid": rollout.sid,
        "name": rollout.friendly_name,
        "what": subject(rollout, app),
        "selector": selection(rollout),
        "state": rollout.state,
        "wave": place(rollout),
        "devices": counted(rollout.counts),
        "failure rate": rate(rollout),
        "guard": describe(rollout.guard),
    }
    if rollout.uncounted:
        told["too new to count"] = rollout.uncounted
    if rollout.removed_devices:
        told["removed since"] = rollout.removed_devices
    if (decision := standing(rollout)) is not None:
        told["decision"] = f"{decision.verdict}: {decision.sentence}"
    if (waits := waiting(rollout)) is not None:
        told["waits for"] = waits
    told["at one time"] = rollout.max_concurrent or "no limit"
    told["in a minute"] = rollout.starts_per_minute or "no limit"
    dates = {"start": rollout.date_start, "started": rollout.date_started, "ended": rollout.date_ended}
    return told | {name: date for name, date in dates.items() if date} | {"created": rollout.date_created}


def wave_rows(rollout: Rollout) -> list[tuple[object, ...]]:
    """Return the rows of the table of waves, under ``WAVE_COLUMNS``."""
    return [
        (
            wave.position,
            wave.size,
            wave.state,
            sum(wave.counts.values()),
            *(wave.counts.get(state, 0) for state in _COUNTED),
            sum(count for state, count in wave.counts.items() if state not in _COUNTED),
        )
        for wave in rollout.waves
    ]


WAVE_COLUMNS: Final = ("wave", "up to", "state", "devices", *_COUNTED, "others")


def outcome(device: RolloutDevice) -> str:
    """Say why a device is in its state, where there is anything to say."""
    if device.error_code and not device.reason:
        return f"error {device.error_code}: {reason(device.error_code)}"
    return device.reason.replace("_", " ")


def cells(counts: Mapping[str, int], width: int = BAR) -> dict[str, int]:
    """Share ``width`` cells out among the states, in the order of a bar: each state that any device is in has one."""
    present = {state: counts[state] for state in GLYPHS if counts.get(state, 0) > 0}
    total = sum(present.values())
    if not total:
        return {}
    shares = {state: max(1, count * width // total) for state, count in present.items()}
    most = max(shares, key=lambda state: present[state])
    shares[most] = max(1, shares[most] + width - sum(shares.values()))
    return shares


def bar(counts: Mapping[str, int], width: int = BAR) -> Text:
    """Draw how many devices are in each state."""
    drawn = Text()
    for state, count in cells(counts, width).items():
        drawn.append(GLYPHS[state] * count, style=_COLOURS.get(state, "blue"))
    return drawn


def line(rollout: Rollout) -> str:
    """Say in one line how a rollout stands."""
    parts = [f"{rollout.state}, wave {place(rollout)}: {counted(rollout.counts)}; failure rate {rate(rollout)}."]
    if (decision := standing(rollout)) is not None:
        parts.append(f"{decision.verdict}: {decision.sentence}")
    if (waits := waiting(rollout)) is not None:
        parts.append(waits)
    return " ".join(parts)


def picture(rollout: Rollout, app: str | None) -> RenderableType:
    """Draw a rollout: a line with a bar for each wave, the failure rate, the guard's sentence, and what is awaited."""
    number = max((len(str(wave.position)) for wave in rollout.waves), default=1)
    size = max((len(clean(wave.size)) for wave in rollout.waves), default=1)
    waves = [_wave(wave, number, size, is_open=wave.position == rollout.wave) for wave in rollout.waves]
    title = Text.assemble(
        (clean(rollout.name), "bold"), f"  {clean(subject(rollout, app))}  ", cell(rollout.state),
        f"  wave {place(rollout)}",
    )  # fmt: skip
    below = [Text(f"failure rate {rate(rollout)}")]
    if (decision := standing(rollout)) is not None:
        below.append(Text(f"guard: {decision.verdict}: {clean(decision.sentence)}"))
    if (waits := waiting(rollout)) is not None:
        below.append(Text(clean(waits), style="dim"))
    return Group(title, *waves, *below)


def _wave(wave: Wave, number: int, size: int, *, is_open: bool) -> Text:
    """Draw a line whose bar stands under those of the other waves; the counts go on below where there is no room."""
    head = f"wave {wave.position:<{number}}  {clean(wave.size):>{size}}  "
    drawn = Text().append(head, style="bold" if is_open else "")
    drawn.append(f"{clean(wave.state):<8}", style=STYLES.get(wave.state, ""))
    if not any(wave.counts.values()):
        return drawn
    return drawn.append("  ").append_text(bar(wave.counts)).append(f"  {counted(wave.counts)}")
