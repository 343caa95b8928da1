"""What devices answer whose protocol asks: how an update went, whether it can be canceled, whether somebody consents.

Deliberately no wire format: an edge maps its protocol's words to those of ``protocol/lifecycle``. Every verb is one
transaction; an answer about an update that is over raises ``Gone`` and changes nothing, so that a repeated answer
counts once. Bells ring after the commit.
"""

from collections.abc import Sequence

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.updates import log, rollout_devices, rules, store, targets
from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.features.updates.model import Assignment, Update
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.errors import Gone, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.protocol.lifecycle import DeviceAnswer, State, is_open


class DeviceAnswers:
    """The verbs of devices that are asked."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus, fetches: Fetches | None = None) -> None:
        """Keep what the verbs need; ``fetches``: the notes of this process, if it serves devices."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus
        self._fetches = fetches or Fetches(limits)

    async def find_offered(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Update:
        """Return an open update. Raises ``NotFound`` for an unknown number, ``Gone`` for a closed update."""
        update = await store.find(self._db, account_sid, device_sid, number)
        return _open(update)

    async def find_installed(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Update:
        """Return an update that succeeded. Raises ``NotFound``."""
        update = await store.find(self._db, account_sid, device_sid, number)
        if update is None or update.state != State.SUCCEEDED:
            raise NotFound("No installed update has this number.")
        return update

    async def feedback(
        self,
        account_sid: AccountSid,
        device_sid: DeviceSid,
        number: int,
        *,
        answer: DeviceAnswer,
        lines: Sequence[str],
    ) -> None:
        """Take how an update goes. Raises ``NotFound``, ``Gone``.

        A success after the update was given up does not open it again, but still says what runs.
        """
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            await self._fetches.write(tx, self._fetches.of(device_sid))
            assignment, update = await _the_one(tx, account_sid, device_sid, number)
            verdict = rules.verdict_of(update, answer)
            if not is_open(update.state):
                await self._take_late(tx, assignment, update, verdict, lines, now)
                return
            await log.append(tx, update, lines, now, self._limits)
            await self._move(tx, assignment, update, verdict, now)

        await self._db.write(body)
        self._bus.ring((device_sid,))

    async def answer_cancel(
        self,
        account_sid: AccountSid,
        device_sid: DeviceSid,
        number: int,
        *,
        answer: DeviceAnswer,
        lines: Sequence[str],
    ) -> None:
        """Take the answer to a cancel: ``CANCELED`` ends the update, ``REFUSED`` lets it go on.

        After ``FAILED`` (the device could not cancel) the update has failed, and the next one is made. Another answer
        only leaves its lines.

        Raises ``NotFound`` when nothing was asked, ``Gone`` when the update is over.
        """
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            assignment, update = await _the_open(tx, account_sid, device_sid, number)
            if not update.cancel_requested:
                raise NotFound("The server has not asked to cancel this update.")
            await log.append(tx, update, lines, now, self._limits)
            if answer is DeviceAnswer.FAILED:
                await self._move(tx, assignment, update, rules.COULD_NOT_CANCEL, now)
            elif answer is DeviceAnswer.CANCELED:
                await targets.close_asked(tx, assignment, update, now)
                await store.want_attributes(tx, account_sid, device_sid)
            elif answer is DeviceAnswer.REFUSED:
                await store.go_on(tx, update, deadline=later(now, self._limits.report_timeout_s), now=now)
                await rollout_devices.hand_over(tx, update)
                await targets.note(tx, update, "cancel_rejected", now)

        await self._db.write(body)
        self._bus.ring((device_sid,))

    async def confirm(
        self, account_sid: AccountSid, device_sid: DeviceSid, number: int, *, confirmed: bool, lines: Sequence[str]
    ) -> None:
        """Take somebody's consent, or that it was denied: then the update waits on. Raises ``NotFound``, ``Gone``."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            _, update = await _the_open(tx, account_sid, device_sid, number)
            await log.append(tx, update, lines, now, self._limits)
            if confirmed and await store.consent(tx, update, now):
                await targets.note(tx, update, "confirmed", now)
            elif not confirmed and update.confirmation == "waiting":
                await targets.note(tx, update, "denied", now)

        await self._db.write(body)
        self._bus.ring((device_sid,))

    async def _take_late(
        self,
        tx: Tx,
        assignment: Assignment,
        update: Update,
        verdict: rules.Verdict,
        lines: Sequence[str],
        now: Millis,
    ) -> None:
        """Take a success that nobody waited for any more: it says what runs, once. Raises ``Gone`` for all else."""
        known = assignment.installed_number == update.number and assignment.reported_hash == update.app_hash
        if known or not rules.counts_late(update, verdict) or await store.has_newer_success(tx, update):
            raise Gone("This update is closed.")
        await log.append(tx, update, lines, now, self._limits)
        reached = update.app_hash == assignment.target_hash
        await store.set_installed(tx, update, reached=reached, now=now)
        await store.want_attributes(tx, update.account_sid, update.device_sid)
        await targets.note(tx, update, "succeeded_late", now)
        if update.app_hash != assignment.reported_hash:
            await targets.note_reported(tx, assignment, update.app_sid, update.app_hash, now)
        await rollout_devices.lift(tx, update.account_sid, update.device_sid, update.app_sid)
        await rollout_devices.follow(tx, update, State.SUCCEEDED, now, 0)
        if await store.find_open(tx, update.account_sid, update.device_sid) is None:
            assignment = await targets.the_assignment(tx, update.account_sid, update.device_sid)
            await targets.make_due(tx, assignment, now)

    async def _move(self, tx: Tx, assignment: Assignment, update: Update, verdict: rules.Verdict, now: Millis) -> None:
        state = verdict.state or update.state
        await store.move(
            tx,
            update,
            state,
            now=now,
            deadline=targets.next_deadline(update, now, self._limits.report_timeout_s),
            bytes_done=update.bytes_total if state == State.SUCCEEDED else None,
            error_code=verdict.error_code,
        )
        if verdict.state is None:
            await rollout_devices.follow(tx, update, state, now, 0)
            return
        await targets.moved(tx, update, state, now, verdict.error_code)
        if is_open(state):
            return
        await store.want_attributes(tx, update.account_sid, update.device_sid)
        if state == State.SUCCEEDED:
            await store.set_installed(tx, update, reached=update.app_hash == assignment.target_hash, now=now)
            if update.app_hash != assignment.reported_hash:
                await targets.note_reported(tx, assignment, update.app_sid, update.app_hash, now)
        waited = update.app_sid != assignment.target_sid
        if update.mode == "skip" and state == State.CANCELED and not waited:
            await targets.put_back(tx, assignment, now)
        elif waited or (update.cancel_requested and state == State.CANCELED):
            await targets.make_due(tx, await targets.the_assignment(tx, update.account_sid, update.device_sid), now)


async def _the_one(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> tuple[Assignment, Update]:
    assignment = await targets.the_assignment(tx, account_sid, device_sid)
    update = await store.find(tx, account_sid, device_sid, number)
    if update is None:
        raise NotFound("No update of this device has this number.")
    return assignment, update


async def _the_open(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> tuple[Assignment, Update]:
    assignment = await targets.the_assignment(tx, account_sid, device_sid)
    return assignment, _open(await store.find(tx, account_sid, device_sid, number))


def _open(update: Update | None) -> Update:
    if update is None:
        raise NotFound("No update of this device has this number.")
    if not is_open(update.state):
        raise Gone("This update is closed.")
    return update
