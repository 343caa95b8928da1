"""Rounds of a comparison: both sides in turn, so that whatever else the machine does meets them alike."""

from collections.abc import Callable

from bench.machine import Sample

Side = Callable[[float], Sample]


def alternate(
    name: str, ours: Side, peer: Side, *, repeats: int, seconds: float, tick: Callable[[], None]
) -> tuple[list[Sample], list[Sample]]:
    """Run two sides in turn, ours first; raise ``RuntimeError`` if any answer was not as expected."""
    own: list[Sample] = []
    peers: list[Sample] = []
    for _ in range(repeats):
        own.append(ours(seconds))
        tick()
        peers.append(peer(seconds))
        tick()
    bad = sum(sample.errors for sample in own + peers)
    if bad:
        raise RuntimeError(f"{name}: {bad} answers were not as expected")
    return own, peers
