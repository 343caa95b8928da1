"""The steps that a rollout takes in a transaction: a wave opens, it ends, a decision is kept. For service and ticker.

Deliberately decides nothing: both have decided when they call.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.events import store as events
from fleetvisor.features.rollouts import store
from fleetvisor.features.rollouts.guard import Bounds, Evidence
from fleetvisor.features.rollouts.model import Rollout, Ruling, Wave
from fleetvisor.ground.clock import Millis
from fleetvisor.protocol.guard_settings import GuardSettings

_DIGITS: Final = 6


async def note(tx: Tx, rollout: Rollout, what: str, now: Millis, **data: str | int | None) -> None:
    """Append the event ``rollout.<what>``."""
    await events.append(
        tx,
        account_sid=rollout.account_sid,
        type=f"rollout.{what}",
        subject_sid=rollout.rollout_sid,
        data=data,
        now=now,
    )


async def rule(tx: Tx, rollout: Rollout, verdict: str, code: str, sentence: str, data: str, now: Millis) -> None:
    """Keep a decision about the open wave."""
    ruling = Ruling(0, rollout.wave, verdict, code, sentence, data, now)
    await store.add_ruling(tx, rollout.account_sid, rollout.rollout_sid, ruling)


def numbers_of(evidence: Evidence, between: Bounds, settings: GuardSettings) -> str:
    """Return the numbers that a decision stood on, as JSON."""
    numbers = {
        "succeeded": evidence.succeeded,
        "failed": evidence.failed,
        "silent": evidence.silent,
        "offline": evidence.offline,
        "uncounted": evidence.uncounted,
        "lower": round(between.lower, _DIGITS),
        "upper": round(between.upper, _DIGITS),
        "limit": settings.limit,
        "confidence": settings.confidence,
        "minimum_sample": settings.minimum_sample,
    }
    return msgspec.json.encode(numbers).decode()


async def go_on(tx: Tx, rollout: Rollout, waves: tuple[Wave, ...], now: Millis) -> bool:
    """Release the open wave: open the next one, or complete the rollout. False when somebody else took a step."""
    await store.set_wave(tx, rollout.rollout_sid, rollout.wave, date_released=now)
    if rollout.wave == len(waves):
        if not await store.end(tx, rollout, "completed", now, canceling=False):
            return False
        await note(tx, rollout, "completed", now)
        return True
    following = rollout.wave + 1
    opened = await store.step(tx, rollout, now, wave=following, scan_created=None, scan_sid=None, date_scanned=None)
    if opened:
        await store.set_wave(tx, rollout.rollout_sid, following, date_opened=now)
        await note(tx, rollout, "wave_opened", now, wave=following)
    return opened
