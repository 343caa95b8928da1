"""Draws ``docs/explanation/guards.svg``: which failure rates stay possible, by the number of devices decided.

``python -m scripts.plot_guard`` writes it, from the guard's own code. Deliberately no plotting library: two axes and
a few bands are less than its dependencies.
"""

from math import log10
from pathlib import Path

from fleetvisor.features.rollouts.guard import Bounds, Evidence, bounds

PATH = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "guards.svg"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 780, 436, 84, 40, 150, 48
DEVICES_MAX, RATE_MAX, CONFIDENCE = 2000, 0.4, 0.95
SERIES = ((0.0, "#1a7f37", "no failures"), (0.02, "#0969da", "2 % failed"), (0.25, "#cf222e", "25 % failed"))
LIMITS = (0.02, 0.05, 0.1)


def x(devices: float) -> float:
    """Give where a number of devices lies: a logarithmic axis."""
    return LEFT + (WIDTH - LEFT - RIGHT) * log10(devices) / log10(DEVICES_MAX)


def y(rate: float) -> float:
    """Give where a rate lies."""
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(rate, RATE_MAX) / RATE_MAX)


def band(rate: float, colour: str, name: str) -> list[str]:
    """Draw what stays possible when this share failed."""
    steps = sorted({round(10 ** (step / 40 * log10(DEVICES_MAX))) for step in range(41)})
    found = []
    for devices in steps:
        failed = round(devices * rate)
        found.append((devices, bounds(Evidence(devices - failed, failed, 0), CONFIDENCE)))
    upper = " ".join(f"{x(devices):.1f},{y(between.upper):.1f}" for devices, between in found)
    lower = " ".join(f"{x(devices):.1f},{y(between.lower):.1f}" for devices, between in reversed(found))
    shown = " ".join(f"{x(devices):.1f},{y(between.upper):.1f}" for devices, between in _shown(found))
    end = (found[-1][1].lower + found[-1][1].upper) / 2
    return [
        f'<polygon points="{upper} {lower}" fill="{colour}" fill-opacity="0.12"/>',
        f'<polyline points="{shown}" fill="none" stroke="{colour}"/>',
        f'<polyline points="{lower}" fill="none" stroke="{colour}"/>',
        f'<text x="{WIDTH - RIGHT + 8}" y="{y(end) + 4:.1f}" fill="{colour}">{name}</text>',
    ]


def _shown(found: list[tuple[int, Bounds]]) -> list[tuple[int, Bounds]]:
    """Give the part of an upper edge that lies in the picture: where it is cut off there is no line."""
    first = next(place for place, (_, between) in enumerate(found) if between.upper < RATE_MAX)
    return found[max(0, first - 1) :]


def draw() -> str:
    """Give the picture."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        "<title>The failure rates that stay possible at 95 % confidence, by the number of devices decided</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="{TOP - 16}">failure rates that stay possible at 95 % confidence, up to 40 %</text>',
    ]
    for devices in (1, 10, 69, 158, 451, 2000):
        lines.append(f'<line x1="{x(devices):.1f}" y1="{TOP}" x2="{x(devices):.1f}" y2="{y(0):.1f}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{x(devices):.1f}" y="{y(0) + 18:.1f}" text-anchor="middle">{devices}</text>')
    lines += [
        f'<text x="{LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate * 100:.0f} %</text>'
        for rate in (0, 0.1, 0.2, 0.3, 0.4)
    ]
    for rate, colour, name in SERIES:
        lines += band(rate, colour, name)
    for limit in LIMITS:
        lines.append(
            f'<line x1="{LEFT}" y1="{y(limit):.1f}" x2="{x(DEVICES_MAX):.1f}" y2="{y(limit):.1f}" stroke="#57606a"'
            ' stroke-dasharray="4 4"/>'
        )
        lines.append(f'<text x="{LEFT + 6}" y="{y(limit) - 4:.1f}" fill="#57606a">limit {limit * 100:.0f} %</text>')
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">devices decided</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture."""
    PATH.write_text(draw())


if __name__ == "__main__":
    main()
