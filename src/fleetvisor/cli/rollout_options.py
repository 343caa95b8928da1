"""The options that say how a new rollout is to go, which ``create`` and ``rollback`` share.

Deliberately without the defaults: the server has them, and the help only tells them.
"""

from typing import Annotated

import typer

from fleetvisor.cli.durations import parse_seconds
from fleetvisor.client.rollouts import Wanted

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
Limit = Annotated[
    str | None,
    typer.Option(
        "--limit",
        metavar="PERCENT",
        help="The highest failure rate that is acceptable; 5% if absent.",
        show_default=False,
    ),
]
Confidence = Annotated[
    str | None,
    typer.Option(
        "--confidence",
        metavar="PERCENT",
        help="How sure the guard's bounds must be; 95% if absent.",
        show_default=False,
    ),
]
MinSample = Annotated[
    int | None,
    typer.Option(
        "--min-sample",
        metavar="N",
        help="How many devices must be decided before the bounds count; 5 if absent.",
        show_default=False,
    ),
]
Soak = Annotated[
    str | None,
    typer.Option("--soak", metavar="TIME", help="How long each wave is observed; 10m if absent.", show_default=False),
]
SilentAfter = Annotated[
    str | None,
    typer.Option(
        "--silent-after",
        metavar="TIME",
        help="After how long without a word a device that installs counts as failed; 30m if absent.",
        show_default=False,
    ),
]
OfflineAfter = Annotated[
    str | None,
    typer.Option(
        "--offline-after",
        metavar="TIME",
        help="After how long a device that did not fetch its update is not waited for; 1d if absent.",
        show_default=False,
    ),
]
OnUnproven = Annotated[
    str | None,
    typer.Option(
        "--on-unproven",
        metavar="hold|stop|release",
        help="What to do with a wave over the limit that proves nothing; hold if absent.",
        show_default=False,
    ),
]
RequireProof = Annotated[
    bool, typer.Option("--require-proof", help="Hold a wave within the limit that proves nothing; else it is released.")
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
        help="Only devices made before this time count as evidence; the rollout's start if absent.",
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


def wanted_of(
    name: str | None,
    waves: str | None,
    limit: str | None,
    confidence: str | None,
    min_sample: int | None,
    soak: str | None,
    silent_after: str | None,
    offline_after: str | None,
    on_unproven: str | None,
    require_proof: bool,
    max_concurrent: int | None,
    starts_per_minute: int | None,
    known_since: str | None,
) -> Wanted:
    """Return what the options say, in the words of the API. Raises ``Usage`` for what is no duration."""
    return Wanted(
        name=name,
        waves=waves,
        limit=limit,
        confidence=confidence,
        sample_min=min_sample,
        soak_s=parse_seconds(soak, "--soak"),
        silent_s=parse_seconds(silent_after, "--silent-after"),
        offline_s=parse_seconds(offline_after, "--offline-after"),
        on_unproven=on_unproven,
        require_proof=require_proof or None,
        concurrent_max=max_concurrent,
        starts_per_minute=starts_per_minute,
        known_since=known_since,
    )
