"""What must hold of rollouts in every simulated world, whatever the seed. Looks at the rows alone.

Most of it is SQL that finds rows which ought not to be: each finding is a sentence.
"""

from collections import Counter
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.rollouts import rules
from fleetvisor.ground.clock import Millis
from fleetvisor.sim.checks import Violated, check_counts

OPEN: Final = "('pending', 'downloading', 'installing', 'testing')"
# A device that is asked to cancel keeps its update until it has answered, and may refuse; its rollout is done with it.
# One that refused, while it ran its new target already, is brought back to that afterwards.
ASKED: Final = """(a.protocol = 'ddi' AND (m.state = 'unchanged'
    OR (m.state IN ('left', 'canceled') AND (m.number = u.number OR m.app_sid IS NOT u.app_sid))))"""
# Between a node's look at the clock and its commit there is the way to the database, and another node's commit.
SKEW_MS: Final = 2000
_WRONG: Final = {
    "a count differs from its rows": """
        SELECT rollout_sid || ' wave ' || wave || ' ' || state || ': ' || SUM(n) AS what FROM (
            SELECT rollout_sid, wave, state, evidence, count AS n FROM rollout_counts WHERE shard >= 0
            UNION ALL SELECT rollout_sid, wave, state, CASE WHEN evidence_from = 0 THEN 1 ELSE 0 END, -1
                FROM rollout_devices)
        GROUP BY rollout_sid, wave, state, evidence HAVING SUM(n) <> 0""",
    "a device has two open updates": f"""
        SELECT device_sid AS what FROM updates WHERE state IN {OPEN} GROUP BY device_sid HAVING COUNT(*) > 1""",
    "a device is deciding without an open update of its rollout, and waits for no other's end": f"""
        SELECT m.rollout_sid || ' ' || m.device_sid || ' ' || m.state AS what FROM rollout_devices m
        LEFT JOIN updates u ON u.device_sid = m.device_sid AND u.state IN {OPEN}
            AND ((u.number = m.number AND u.rollout_sid = m.rollout_sid)
                OR (m.number IS NULL AND m.state = 'updating' AND u.rollout_sid IS NOT m.rollout_sid))
        WHERE m.state IN ('updating', 'offline') AND u.number IS NULL""",
    "a device decides in a rollout that does not have it": """
        SELECT m.rollout_sid || ' ' || m.device_sid AS what FROM rollout_devices m
        JOIN assignments a ON a.device_sid = m.device_sid
        WHERE m.state IN ('updating', 'offline') AND a.rollout_sid IS NOT m.rollout_sid""",
    "an open update of a rollout is not counted as one": f"""
        SELECT u.rollout_sid || ' ' || u.device_sid || ' ' || COALESCE(m.state, 'no row') AS what FROM updates u
        LEFT JOIN rollout_devices m ON m.device_sid = u.device_sid AND m.rollout_sid = u.rollout_sid
        JOIN assignments a ON a.device_sid = u.device_sid
        JOIN rollouts r ON r.rollout_sid = u.rollout_sid AND r.removing = 0
        WHERE u.state IN {OPEN} AND NOT {ASKED} AND (m.device_sid IS NULL
            OR (m.number = u.number AND m.state NOT IN ('updating', 'offline', 'silent'))
            OR (m.number IS NOT u.number AND m.state NOT IN ('failed', 'silent', 'unchanged')))""",
    # Of one that reverted, and was then to be tried again but has a penalty by now, the reason is the penalty.
    "a device is decided otherwise than its update": f"""
        SELECT m.rollout_sid || ' ' || m.device_sid || ' ' || m.state || ': ' || u.state AS what
        FROM rollout_devices m JOIN updates u ON u.device_sid = m.device_sid AND u.number = m.number
        JOIN assignments a ON a.device_sid = u.device_sid
        WHERE (m.state = 'succeeded' AND u.state <> 'succeeded')
            OR (m.state = 'failed' AND m.reason = 'reverted' AND u.state <> 'succeeded')
            OR (m.state = 'failed' AND m.reason <> 'reverted' AND (u.state <> 'failed' OR u.error_code = 9)
                AND NOT (m.reason = 'penalty' AND m.error_code = 7 AND u.state = 'succeeded'))
            OR (m.state = 'silent' AND u.state = 'succeeded' AND u.rollout_sid = m.rollout_sid)
            OR (m.state IN ('left', 'canceled') AND u.state IN {OPEN} AND u.rollout_sid = m.rollout_sid
                AND NOT {ASKED})""",
    "more updates are open than may be": """
        SELECT r.rollout_sid || ': ' || COUNT(*) AS what FROM rollouts r
        JOIN rollout_devices m ON m.rollout_sid = r.rollout_sid AND m.state = 'updating'
        WHERE r.concurrent_max > 0 AND r.friendly_name = 'bounded'
        GROUP BY r.rollout_sid, r.concurrent_max HAVING COUNT(*) > r.concurrent_max""",
    "a decision is missing": """
        SELECT rollout_sid AS what FROM rollout_decisions GROUP BY rollout_sid
        HAVING COUNT(*) <> MAX(number) OR MIN(number) <> 1""",
    "a wave was released without a decision, or before it had soaked": f"""
        SELECT w.rollout_sid || ' wave ' || w.position AS what FROM rollout_waves w
        JOIN rollouts r ON r.rollout_sid = w.rollout_sid
        WHERE w.date_released IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM rollout_decisions d WHERE d.rollout_sid = w.rollout_sid AND d.wave = w.position
                AND (d.code IN ('by_hand', 'empty')
                    OR (d.verdict <> 'stop'
                        AND w.date_offered + (r.guard ->> 'soak') * 1000 <= w.date_released + {SKEW_MS})))""",
    "something began twice": """
        SELECT subject_sid || ' ' || type || ' ' || data AS what FROM events
        WHERE type IN ('rollout.started', 'rollout.wave_opened', 'rollout.stopped')
        GROUP BY subject_sid, type, data HAVING COUNT(*) > 1""",
    "a wave is open before the one before it was released": """
        SELECT w.rollout_sid || ' wave ' || w.position AS what FROM rollout_waves w
        JOIN rollout_waves b ON b.rollout_sid = w.rollout_sid AND b.position = w.position - 1
        WHERE w.date_opened IS NOT NULL AND b.date_released IS NULL""",
    "a device belongs to a wave that is not open": """
        SELECT m.rollout_sid || ' ' || m.device_sid AS what FROM rollout_devices m
        JOIN rollouts r ON r.rollout_sid = m.rollout_sid WHERE m.wave > r.wave OR m.wave < 1""",
    "a rollout under way has lost its app, or one that ended holds it": """
        SELECT r.rollout_sid || ' ' || r.state AS what FROM rollouts r
        LEFT JOIN apps a ON a.app_sid = r.app_sid
        WHERE (r.date_ended IS NULL AND r.kind = 'release' AND (a.app_sid IS NULL OR r.open_app_sid IS NULL))
            OR (r.date_ended IS NOT NULL AND r.open_app_sid IS NOT NULL)
            OR ((r.date_ended IS NULL) <> (r.state NOT IN ('stopped', 'aborted', 'completed')))""",
    "a rollout stopped without the guard's word": """
        SELECT r.rollout_sid AS what FROM rollouts r WHERE r.state = 'stopped' AND NOT EXISTS (
            SELECT 1 FROM rollout_decisions d WHERE d.rollout_sid = r.rollout_sid AND d.verdict IN ('stop', 'unproven')
                AND d.number = (SELECT MAX(number) FROM rollout_decisions l WHERE l.rollout_sid = r.rollout_sid))""",
    "a rollout given up has open updates": f"""
        SELECT r.rollout_sid || ' ' || u.device_sid AS what FROM rollouts r
        JOIN updates u ON u.rollout_sid = r.rollout_sid AND u.state IN {OPEN}
        LEFT JOIN rollout_devices m ON m.device_sid = u.device_sid AND m.rollout_sid = u.rollout_sid
        JOIN assignments a ON a.device_sid = u.device_sid
        WHERE r.state IN ('stopped', 'aborted') AND r.canceling = 0 AND NOT {ASKED}""",
}
_AT_THE_END: Final = {
    "a device never decided": """
        SELECT rollout_sid || ' ' || device_sid || ' ' || state AS what FROM rollout_devices
        WHERE state IN ('updating', 'offline')""",
    "an update is still open": f"SELECT device_sid AS what FROM updates WHERE state IN {OPEN}",
}
_UNFINISHED: Final = """SELECT rollout_sid || ' ' || state || ' wave ' || wave AS what FROM rollouts
    WHERE date_ended IS NULL OR canceling = 1 OR removing = 1"""
_TALLY: Final = (
    "SELECT state AS what FROM rollouts",
    "SELECT state AS what FROM rollout_devices",
    "SELECT code AS what FROM rollout_decisions",
)
_GIVEN_UP: Final = frozenset({"stopped", "aborted"})


class _What(msgspec.Struct, frozen=True):
    what: str


class _RolloutRow(msgspec.Struct, frozen=True):
    rollout_sid: str
    state: str
    version: int
    wave: int
    members: int
    updates: int


class _MemberRow(msgspec.Struct, frozen=True):
    rollout_sid: str
    device_sid: str
    wave: int


class _WaveRow(msgspec.Struct, frozen=True):
    rollout_sid: str
    threshold: int | None


class _AssignmentRow(msgspec.Struct, frozen=True):
    device_sid: str
    rollout_sid: str | None
    target_sid: str | None
    date_instructed: int | None
    date_started: int | None


_ROLLOUTS: Final = """SELECT r.rollout_sid, r.state, r.version, r.wave,
    (SELECT COUNT(*) FROM rollout_devices m WHERE m.rollout_sid = r.rollout_sid) AS members,
    (SELECT COUNT(*) FROM updates u JOIN assignments a ON a.device_sid = u.device_sid AND a.protocol = 'native'
        WHERE u.rollout_sid = r.rollout_sid) AS updates FROM rollouts r"""
_MEMBERS: Final = "SELECT rollout_sid, device_sid, wave FROM rollout_devices"
_WAVES: Final = "SELECT rollout_sid, threshold FROM rollout_waves ORDER BY rollout_sid, position"
_ASSIGNMENTS: Final = """SELECT a.device_sid, a.rollout_sid, a.target_sid, a.date_instructed, r.date_started
    FROM assignments a LEFT JOIN rollouts r ON r.rollout_sid = a.rollout_sid"""


class Direct(msgspec.Struct, frozen=True):
    """What a device was told directly: the app (``None``: none), and between which times that was done."""

    app_sid: str | None
    since: Millis
    until: Millis


class Ledger:
    """What was seen and what was told so far: what is compared with the rows at every look."""

    def __init__(self, db: Database) -> None:
        """Look into ``db``, past every node."""
        self._db = db
        self._seen: dict[str, _RolloutRow] = {}
        self._instructed: dict[str, tuple[int, str]] = {}
        self.told: dict[str, Direct] = {}

    async def look(self, now: Millis) -> None:
        """Hold the rows against the promises. Raises ``Violated``."""
        await self._find(_WRONG)
        await check_counts(self._db)
        await self._look_at_rollouts()
        await self._look_at_places()
        await self._look_at_instructions(now)

    async def look_at_the_end(self) -> None:
        """Hold the rows of a world that came to its end against the promises. Raises ``Violated``."""
        await self._find(_AT_THE_END)

    async def unfinished(self) -> list[str]:
        """Return the rollouts that may still do something."""
        return [row.what for row in await self._db.all(_What, _UNFINISHED, {})]

    async def tally(self) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """Count the rollouts and their devices by state, and the decisions by code."""
        return await self._count(_TALLY[0]), await self._count(_TALLY[1]), await self._count(_TALLY[2])

    async def _count(self, sql: str) -> dict[str, int]:
        return dict(sorted(Counter(row.what for row in await self._db.all(_What, sql, {})).items()))

    async def _find(self, wrong: dict[str, str]) -> None:
        for sentence, sql in wrong.items():
            found = await self._db.all(_What, sql, {})
            if found:
                raise Violated(f"{sentence}: {[row.what for row in found]}")

    async def _look_at_rollouts(self) -> None:
        """Demand that decisions are never taken back, and that what stands still stands still."""
        for row in await self._db.all(_RolloutRow, _ROLLOUTS, {}):
            old = self._seen.get(row.rollout_sid, row)
            self._seen[row.rollout_sid] = row
            if row.wave < old.wave or row.version < old.version:
                raise Violated(f"a rollout went back: from {old} to {row}")
            if old.state in _GIVEN_UP and (row.state != old.state or row.members > old.members):
                raise Violated(f"a rollout that was given up goes on: from {old} to {row}")
            if old.state in _GIVEN_UP and row.updates > old.updates:
                raise Violated(f"a rollout that was given up makes updates: from {old} to {row}")
            if old.state == row.state == "paused" and old.version == row.version and row.members > old.members:
                raise Violated(f"a rollout that is paused comes to devices: from {old} to {row}")

    async def _look_at_places(self) -> None:
        """Demand that each device is in the wave in which its place lies."""
        fixed: dict[str, list[int]] = {}
        for wave in await self._db.all(_WaveRow, _WAVES, {}):
            fixed.setdefault(wave.rollout_sid, []).append(wave.threshold or 0)
        for member in await self._db.all(_MemberRow, _MEMBERS, {}):
            place = rules.place(member.rollout_sid, member.device_sid)
            if 1 + sum(place >= threshold for threshold in fixed[member.rollout_sid]) != member.wave:
                raise Violated(f"{member} is in a wave that is not its own")

    async def _look_at_instructions(self, now: Millis) -> None:
        """Demand that the newest explicit instruction has each device."""
        for row in await self._db.all(_AssignmentRow, _ASSIGNMENTS, {}):
            if row.date_instructed is None:
                continue
            rank = (row.date_instructed, row.rollout_sid or "~")
            if rank < self._instructed.get(row.device_sid, (0, "")) or row.date_instructed > now:
                raise Violated(f"an older instruction took a device: {row}, had {self._instructed[row.device_sid]}")
            self._instructed[row.device_sid] = rank
            told = self.told.get(row.device_sid)
            if told is None:
                continue
            if row.date_instructed < told.since:
                raise Violated(f"what a device was told directly is forgotten: {row}, {told}")
            if row.rollout_sid is None and row.date_instructed <= told.until and row.target_sid != told.app_sid:
                raise Violated(f"a device was told directly otherwise: {row}, {told}")
            # With a rollout that was removed went the word on when it began.
            if row.rollout_sid is not None and row.date_started is not None and row.date_started < told.since:
                raise Violated(f"an older rollout took a device that was told directly since: {row}, {told}")
