"""What moves rollouts: offers the open wave, asks the guard, opens the next wave, stops, retries, cancels, removes.

Every step is a transaction that takes effect only if nobody took a step since the rollout was read, so it may run on
several nodes, be killed at any point and be run again. Deliberately keeps nothing that matters in memory: only when it
last looked for late devices and for silent ones, how far it has counted who is selected, and whom it came to already
beyond the chunk that it offers.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.rollouts import (
    decisions,
    holding,
    members,
    offering,
    rules,
    service,
    store,
    upkeep,
)
from fleetvisor.features.rollouts.model import Rollout, Wave
from fleetvisor.features.rollouts.offering import Chunk
from fleetvisor.features.rollouts.population import PAUSE_S, PIECES_MAX, Census, Population, Spot
from fleetvisor.features.rollouts.waiting import waits_for
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import RolloutSid
from fleetvisor.obs.health import beat

_RESCAN_S: Final = 30.0
_RESCAN_SHARE: Final = 20.0
_OVERDUE_SHARE: Final = 20
_OVERDUE_PAUSE_S: Final = (0.5, 15.0)
_SHUT_OUT_PAUSE_S: Final = 1.0
_FOUND_S: Final = 1.0
_SAFE_S: Final = 0.25


@dataclass(slots=True)
class _Found:
    """Devices of a wave that lie ahead of a place, in their order; ``spot`` is how far was searched, and ``time`` when.

    Soon they are searched anew: whether a device is selected is judged when it is come to.
    """

    time: float
    wave: int
    place: Spot | None
    devices: list[tuple[Spot, int]]
    spot: Spot | None
    ended: bool

    def take(self, most: int) -> Chunk:
        """Take the next devices: they may be taken again as long as the rollout stands at the place before them."""
        if len(self.devices) <= most:
            return Chunk(tuple(self.devices), self.spot, self.ended)
        return Chunk(tuple(self.devices[:most]), self.devices[most - 1][0], ended=False)

    def after(self, chunk: Chunk) -> "_Found | None":
        """Return what lies ahead once a chunk was offered."""
        rest = self.devices[len(chunk.devices) :]
        return _Found(self.time, self.wave, chunk.spot, rest, self.spot, self.ended) if rest else None


@dataclass(slots=True)
class _Memo:
    """What the ticker keeps of one rollout: worth some work when it is lost, nothing else. Times are the clocks'."""

    census: Census | None = None
    scan_began: float | None = None
    rescan_s: float = _RESCAN_S
    looked: float | None = None
    looks_again: int = 0
    found: _Found | None = None
    held: Millis | None = None


class Ticker:
    """Moves every rollout of every account that is under way."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus, population: Population) -> None:
        """Keep what the steps need."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus
        self._population = population
        self._memos: dict[RolloutSid, _Memo] = {}
        self._last = Millis(0)

    async def tick(self) -> None:
        """Take steps, of each rollout in turn, until there is nothing to do now.

        One rollout that fails does not hold up the others; its error is raised in the end.
        """
        failures: dict[RolloutSid, Exception] = {}
        now = self._clock.now()
        if now < self._last:  # the clock went back: a moment that is kept here may lie years ahead
            self._memos.clear()
        self._last = now
        busy = True
        while busy:
            busy = False
            unfinished = await store.unfinished(self._db)
            self._memos = {each.rollout_sid: self._memos.get(each.rollout_sid) or _Memo() for each in unfinished}
            safe = self._clock.monotonic()
            for rollout in unfinished:
                if self._clock.monotonic() - safe > _SAFE_S:
                    for each in await store.unfinished(self._db):
                        busy |= await self._try(self._keep_safe, each, failures)
                    safe = self._clock.monotonic()
                busy |= await self._try(self._step, rollout, failures)
            await self._clock.sleep(PAUSE_S if busy else 0)
        if failures:
            raise ExceptionGroup(f"rollouts {', '.join(failures)}", list(failures.values()))

    async def waiting(self) -> Counter[str]:
        """Return what the rollouts under way, of all accounts, wait for: how many for each code of ``waiting``."""
        now = self._clock.now()
        unfinished = [each for each in await store.unfinished(self._db) if not each.removing]
        under_way = await store.views(self._db, unfinished)
        found = [waits_for(view, now) for view in under_way]
        return Counter(wait.code for wait in found if wait is not None)

    async def _try(
        self, step: Callable[[Rollout], Awaitable[bool]], rollout: Rollout, failures: dict[RolloutSid, Exception]
    ) -> bool:
        beat()
        if rollout.rollout_sid in failures:
            return False
        try:
            return await step(rollout)
        except Exception as error:  # noqa: BLE001  raised when the others took their steps
            failures[rollout.rollout_sid] = error
            return False

    async def _keep_safe(self, rollout: Rollout) -> bool:
        """Ask the guard, or take updates back. Neither waits until all other rollouts took their steps."""
        if rollout.canceling and not rollout.removing:
            return await self._cancel(rollout, self._clock.now())
        judged = rollout.state in {"running", "paused"} and not rollout.removing
        return judged and await self._decide(rollout, self._clock.now())

    async def _step(self, rollout: Rollout) -> bool:
        """Take a step of one rollout; return whether there may be more to do at once."""
        now, memo = self._clock.now(), self._memos.setdefault(rollout.rollout_sid, _Memo())
        if rollout.removing:
            return await self._db.write(upkeep.remove(rollout, self._limits))
        if rollout.canceling:
            return await self._cancel(rollout, now)
        match rollout.state:
            case "scheduled":
                due = rollout.date_start is not None and rollout.date_start <= now
                return due and await self._db.write(lambda tx: service.begin(tx, rollout, now))
            case "starting":
                return await self._fix(rollout, memo)
            case "running":
                # The guard is asked first, and so before each chunk: a wave that takes long to offer is stopped in its
                # middle. After a step the rollout is read anew: by the old version nothing would take effect.
                decided = await self._decide(rollout, now)
                stepped = decided or await self._look(rollout, memo, now) or await self._retry(rollout, now)
                return stepped or await self._offer(rollout, memo, now)
            case "paused":
                return await self._decide(rollout, now) or await self._look(rollout, memo, now)
            case _:
                return False

    async def _fix(self, rollout: Rollout, memo: _Memo) -> bool:
        """Go on counting who is selected; once all are, fix the waves, and open the first."""
        waves = await store.waves(self._db, rollout.rollout_sid)
        census = memo.census = memo.census or Census(rollout, waves)
        if not await self._population.count(census, PIECES_MAX):
            return True
        fixed = await self._population.thresholds(census)
        now = self._clock.now()

        async def body(tx: Tx) -> bool:
            running = await store.step(tx, rollout, now, state="running", wave=1, date_paid=0)
            if running:
                for wave, threshold in zip(waves, fixed, strict=True):
                    await store.set_wave(tx, rollout.rollout_sid, wave.position, threshold=threshold)
                await store.set_wave(tx, rollout.rollout_sid, 1, date_opened=now)
                await decisions.append_event(tx, rollout, "wave_opened", now, wave=1, devices=census.devices)
            return running

        changed = await self._db.write(body)
        memo.census = None
        self._bus.ring((rollout.rollout_sid,))
        return changed

    async def _offer(self, rollout: Rollout, memo: _Memo, now: Millis) -> bool:
        """Offer a chunk of the open wave; return whether anything was done."""
        if rollout.date_scanned is not None:
            return await self._look_again(rollout, memo, now)
        waves = await store.waves(self._db, rollout.rollout_sid)
        found = await self._found(rollout, memo, waves)
        memo.found = None
        chunk = found.take(self._limits.rollout_chunk)
        if chunk.devices:
            updating = rules.total((await store.counted(self._db, rollout.rollout_sid)).counts)["updating"]
            if rules.allowance(rollout, updating, now) == 0 or await holding.is_held(self._db, rollout):
                return False
        offered = await self._db.write(offering.offer(rollout, chunk, self._limits, now))
        if offered is None:
            return True
        if offered.whole:
            memo.found = found.after(chunk)
        self._bus.ring((rollout.rollout_sid, *offered.device_sids))
        if chunk.ended and offered.whole and memo.scan_began is not None:
            spent_s = self._clock.monotonic() - memo.scan_began
            memo.scan_began, memo.rescan_s = None, max(_RESCAN_S, spent_s * _RESCAN_SHARE)
        return offered.whole or bool(offered.device_sids)

    async def _found(self, rollout: Rollout, memo: _Memo, waves: tuple[Wave, ...]) -> _Found:
        """Search on for devices of the open wave, as far as a chunk or a bounded number of pieces goes.

        Of a piece that had more than a chunk the rest is not searched again.
        """
        if memo.scan_began is None:
            memo.scan_began = self._clock.monotonic()
        place = spot = None if rollout.scan_sid is None else Spot(rollout.scan_created or 0, rollout.scan_sid)
        known, time = memo.found, self._clock.monotonic()
        if known is not None and (known.wave, known.place) == (rollout.wave, place) and time - known.time < _FOUND_S:
            return known
        fixed = [wave.threshold or 0 for wave in waves]
        found: list[tuple[Spot, int]] = []
        ended = False
        for _ in range(PIECES_MAX):
            piece = await self._population.piece(rollout, spot)
            spot, ended = piece.spot, piece.ended
            for device in piece.devices:
                wave = rules.wave_of(rules.place(rollout.rollout_sid, device.device_sid), fixed)
                if wave <= rollout.wave:
                    found.append((device, wave))
            if ended or len(found) >= self._limits.rollout_chunk:
                break
        return _Found(time, rollout.wave, place, found, spot, ended)

    async def _look_again(self, rollout: Rollout, memo: _Memo, now: Millis) -> bool:
        """Search the open wave anew from time to time, for devices that came late."""
        if rollout.date_scanned is None or now - rollout.date_scanned < memo.rescan_s * 1000:
            return False

        async def body(tx: Tx) -> bool:
            return await store.step(tx, rollout, now, scan_created=None, scan_sid=None, date_scanned=None)

        return await self._db.write(body)

    async def _decide(self, rollout: Rollout, now: Millis) -> bool:
        """Ask the guard, and do what it says; return whether that changed anything."""
        counted = await store.counted(self._db, rollout.rollout_sid)
        waves = await store.waves(self._db, rollout.rollout_sid)
        ruling = await store.last_ruling(self._db, rollout)
        if not decisions.judge_wave(rollout, waves, counted, now).is_news(rollout, ruling):
            return False

        async def body(tx: Tx) -> bool:
            current = await store.find(tx, rollout.account_sid, rollout.rollout_sid)
            if current is None or current.version != rollout.version:
                return True
            waves = await store.waves(tx, rollout.rollout_sid)
            judged = decisions.judge_wave(current, waves, await store.counted(tx, rollout.rollout_sid), now)
            last = rollout.wave == len(waves)
            if judged.proceeds(current) and not await holding.may_proceed(tx, current, now, last=last):
                return False
            return await judged.apply(tx, current, waves, await store.last_ruling(tx, rollout), now)

        changed = await self._db.write(body)
        self._bus.ring((rollout.rollout_sid,))
        return changed

    async def _look(self, rollout: Rollout, memo: _Memo, now: Millis) -> bool:
        """Look for devices that nothing waits for any more, and for those that count as evidence by now."""
        excused = await self._look_for_shut_out(rollout, memo, now)
        return await self._look_for_overdue(rollout, memo, now) or excused

    async def _look_for_shut_out(self, rollout: Rollout, memo: _Memo, now: Millis) -> bool:
        if now < memo.looks_again:
            return False
        began = self._clock.monotonic()
        most = self._limits.rollout_chunk
        found = await members.shut_out(self._db, rollout, now, most)
        ripe = await members.ripe(self._db, rollout, now, most)
        if len(found) < most and len(ripe) < most:
            spent_s = self._clock.monotonic() - began
            memo.looks_again = later(now, max(_SHUT_OUT_PAUSE_S, spent_s * _RESCAN_SHARE))
        if not found and not ripe:
            return False
        return await self._db.write(upkeep.settle(rollout, found, [row.device_sid for row in ripe], now))

    async def _look_for_overdue(self, rollout: Rollout, memo: _Memo, now: Millis) -> bool:
        pause_s = min(rollout.guard.silent_after, rollout.guard.offline_after) / _OVERDUE_SHARE
        pause_s = min(max(pause_s, _OVERDUE_PAUSE_S[0]), _OVERDUE_PAUSE_S[1])
        if memo.looked is not None and now - memo.looked < pause_s * 1000:
            return False
        if await holding.is_held(self._db, rollout):  # a device that cannot download is silent for no fault of the app
            memo.looked = memo.held = now
            return False
        if memo.held is not None and now - memo.held < rollout.guard.silent_after * 1000:
            return False
        found = await members.overdue(self._db, rollout, now, self._limits.rollout_chunk)
        if len(found) < self._limits.rollout_chunk:
            memo.looked = now
        if not found:
            return False
        return await self._db.write(upkeep.call_overdue(rollout, [row.device_sid for row in found], now))

    async def _retry(self, rollout: Rollout, now: Millis) -> bool:
        if rollout.date_retry is None:
            return False
        found = await members.failed_before(self._db, rollout, rollout.date_retry, self._limits.rollout_chunk)
        body = upkeep.retry(rollout, [row.device_sid for row in found], self._limits, now)
        changed = await self._db.write(body)
        if changed is None:
            return False
        self._bus.ring((rollout.rollout_sid, *changed))
        return True

    async def _cancel(self, rollout: Rollout, now: Millis) -> bool:
        found = [row.device_sid for row in await members.to_cancel(self._db, rollout, self._limits.rollout_chunk)]
        changed = await self._db.write(upkeep.cancel(rollout, found, self._limits, now))
        self._bus.ring((rollout.rollout_sid, *found))
        return changed
