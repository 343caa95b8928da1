"""The open wave of a rollout, offered in chunks: who is taken, who is left out and why, and what they are told.

Every chunk is one transaction that reads again what it decides by, so it may be repeated, run on two nodes, and be
killed: a device that has a row is passed by. Deliberately knows no guard. Bells ring after the commit.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.rollouts import fate, holding, members, rules, store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.rollouts.population import Spot
from fleetvisor.features.updates import offers, rollout_devices
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.model import Assignment, Instruction, Member, MemberState, Update
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import DeviceSid, RolloutSid


class Chunk(msgspec.Struct, frozen=True):
    """Devices of the open wave to come to, with their waves; where the search goes on, and whether it ended."""

    devices: tuple[tuple[Spot, int], ...]
    spot: Spot | None
    ended: bool


class Offered(msgspec.Struct, frozen=True):
    """Whose target changed, and whether all of the chunk was come to: else the limits of pace were reached."""

    device_sids: tuple[DeviceSid, ...]
    whole: bool


class _Device(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    access: str
    hardware_class: str | None
    date_created: Millis
    by_operator: bool
    counter: int | None

    @property
    def origin(self) -> rules.Origin:
        return rules.Origin(self.date_created, self.by_operator)


class _Seen(msgspec.Struct, frozen=True):
    """What was read of the devices of a chunk, in its transaction."""

    known: Mapping[DeviceSid, Member]
    source: Mapping[DeviceSid, Member]
    assignments: Mapping[DeviceSid, Assignment]
    open_updates: Mapping[DeviceSid, Update]
    devices: Mapping[DeviceSid, _Device]
    failures: Mapping[tuple[DeviceSid, str], int]
    apps: Mapping[str, App]


def offer(rollout: Rollout, chunk: Chunk, limits: Limits, now: Millis) -> Callable[[Tx], Awaitable[Offered | None]]:
    """Return the body that offers a chunk; it gives ``None`` when somebody else took a step meanwhile."""

    async def body(tx: Tx) -> Offered | None:
        current = await store.find(tx, rollout.account_sid, rollout.rollout_sid)
        if current is None or current.version != rollout.version:
            return None
        if await holding.is_held(tx, rollout):
            return Offered((), whole=False)
        seen = await _look(tx, rollout, [DeviceSid(spot.device_sid) for spot, _ in chunk.devices])
        updating = rules.total((await store.counted(tx, rollout.rollout_sid)).counts)["updating"]
        room = rules.allowance(rollout, updating, now)
        taken, rows, reached_end = _sort(rollout, chunk, seen, room, limits, now)
        instruction = Instruction(rollout.date_started or now, rollout.rollout_sid)
        numbers = await offers.make(
            tx, rollout.account_sid, taken, instruction, now, cancel_timeout_s=limits.cancel_timeout_s
        )
        waves = {spot.device_sid: wave for spot, wave in chunk.devices}
        rows += [_taken(rollout, waves[each.assignment.device_sid], each, numbers, now) for each in taken]
        rows = _with_evidence(rollout, rows, seen, await store.count_waves(tx, rollout.rollout_sid), limits, now)
        await rollout_devices.insert(tx, rows, seen.known)
        starts = sum(1 for row in rows if row.state == "updating")
        at = chunk.spot if reached_end is None else reached_end
        await store.step(
            tx,
            rollout,
            now,
            scan_created=at.date_created if at else None,
            scan_sid=at.device_sid if at else None,
            date_scanned=now if chunk.ended and reached_end is None else None,
            date_paid=rules.pay(rollout, starts, now),
        )
        return Offered(tuple(each.assignment.device_sid for each in taken), reached_end is None)

    return body


async def _look(tx: Tx, rollout: Rollout, sids: Sequence[DeviceSid]) -> _Seen:
    account_sid = rollout.account_sid
    source: dict[DeviceSid, Member] = {}
    wanted: set[str] = set()
    if rollout.kind == "rollback":
        source = await members.find_many(tx, account_sid, str(rollout.rollback_of), sids)
        wanted = {member.previous_sid for member in source.values() if member.previous_sid}
    elif rollout.app_sid is not None:
        wanted = {rollout.app_sid}
    found = [await apps_store.find_in(tx, account_sid, sid) for sid in sorted(wanted)]
    account = {"account_sid": account_sid}
    # By way of the assignments, which no index leads to by account: SQLite would walk all of the account's devices.
    sql = f"""SELECT d.device_sid, d.access, d.hardware_class, d.date_created, d.by_operator,
            CASE WHEN NOT {updates_store.IS_ASKED} THEN r.security_counter END AS counter
        FROM assignments a JOIN devices d ON d.device_sid = a.device_sid
        LEFT JOIN apps r ON r.app_sid = a.reported_sid
        WHERE a.account_sid = :account_sid AND a.device_sid IN (:keys)"""
    return _Seen(
        known=await members.find_many(tx, account_sid, rollout.rollout_sid, sids),
        source=source,
        assignments=await updates_store.find_assignments(tx, account_sid, sids),
        open_updates=await updates_store.find_all_open(tx, account_sid, sids),
        devices={row.device_sid: row for row in await tx.read_many(_Device, sql, sids, account)},
        failures=await rollout_devices.failures_of(tx, account_sid, sids),
        apps={app.app_sid: app for app in found if app is not None},
    )


def _sort(
    rollout: Rollout, chunk: Chunk, seen: _Seen, room: int | None, limits: Limits, now: Millis
) -> tuple[list[offers.Offer], list[Member], Spot | None]:
    """Return who is taken, the rows of who is not, and after whom the room was used up (``None``: it was enough)."""
    taken: list[offers.Offer] = []
    rows: list[Member] = []
    before = _scan_spot(rollout)
    for spot, wave in chunk.devices:
        sid = DeviceSid(spot.device_sid)
        row = _judge(rollout, sid, wave, seen, limits, now)
        if isinstance(row, Member):
            rows.append(row)
        elif row is not None:
            if row.opens and room is not None:
                if room == 0:
                    return taken, rows, before or Spot(-1, "")
                room -= 1
            taken.append(row)
        before = spot
    return taken, rows, None


def _scan_spot(rollout: Rollout) -> Spot | None:
    return None if rollout.scan_sid is None else Spot(rollout.scan_created or 0, rollout.scan_sid)


def _judge(
    rollout: Rollout, sid: DeviceSid, wave: int, seen: _Seen, limits: Limits, now: Millis
) -> offers.Offer | Member | None:
    """Return what a device is offered, or the row that says why not; ``None``: it was come to before, or is gone."""
    known, assignment, device = seen.known.get(sid), seen.assignments.get(sid), seen.devices.get(sid)
    if assignment is None or device is None or (known is not None and known.state != "skipped"):
        return None
    origin = seen.source.get(sid)
    source = None if origin is None else fate.Source(origin.state, origin.previous_sid)
    app_sid = fate.app_sid_for(rollout, source)
    subject = fate.Subject(
        access=device.access,
        hardware_class=device.hardware_class,
        counter=device.counter,
        instructed_by=assignment.rollout_sid,
        date_instructed=assignment.date_instructed,
        failures=seen.failures.get((sid, app_sid or ""), 0),
        source=source,
    )
    app = seen.apps.get(app_sid or "")
    decided = fate.decide(rollout, subject, app, limits.penalty_failures)
    match decided.outcome:
        case "other":
            return None
        case "left":
            return _with(_row(rollout, assignment, wave, now), "left")
        case "skip":
            reason = decided.reason or ""
            said = known is not None and known.reason == reason
            return None if said else _with(_row(rollout, assignment, wave, now), "skipped", reason)
        case "take":
            if app is None:
                raise AssertionError("a rollout under way keeps its app")
            return offers.Offer(assignment, app, seen.open_updates.get(sid))


def _with_evidence(
    rollout: Rollout, rows: Sequence[Member], seen: _Seen, waves: int, limits: Limits, now: Millis
) -> list[Member]:
    """Note in each row from when the device counts as evidence."""
    return [
        msgspec.structs.replace(
            row,
            evidence_from=rules.evidence_from(
                rollout, row.wave, waves, seen.devices[row.device_sid].origin, after_s=limits.new_device_s, now=now
            ),
        )
        for row in rows
    ]


def _row(rollout: Rollout, assignment: Assignment, wave: int, now: Millis) -> Member:
    return Member(
        rollout_sid=RolloutSid(rollout.rollout_sid),
        device_sid=assignment.device_sid,
        account_sid=rollout.account_sid,
        wave=wave,
        state="updating",
        reason="",
        error_code=0,
        number=None,
        attempts=0,
        app_sid=None,
        previous_sid=assignment.reported_sid,
        date_offered=now,
        date_changed=now,
        evidence_from=Millis(0),
    )


def _with(row: Member, state: MemberState, reason: str = "") -> Member:
    return msgspec.structs.replace(row, state=state, reason=reason)


def _taken(
    rollout: Rollout, wave: int, each: offers.Offer, numbers: Mapping[DeviceSid, int | None], now: Millis
) -> Member:
    number = numbers[each.assignment.device_sid]
    unchanged = each.reached and number is None
    blank = _row(rollout, each.assignment, wave, now)
    return msgspec.structs.replace(
        blank,
        state="unchanged" if unchanged else "updating",
        number=number,
        attempts=0 if unchanged else 1,
        app_sid=each.app.app_sid,
    )
