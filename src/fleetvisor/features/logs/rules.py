"""When logging is on: judged at every reading, by one comparison."""

from fleetvisor.ground.clock import Millis


def judge(expires: Millis | None, now: Millis) -> Millis | None:
    """Return until when logging is on; ``None`` when it is off or over (reference, section 2.3)."""
    return expires if expires is not None and expires > now else None
