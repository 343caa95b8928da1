"""The agent's side of the conversation: polling, reporting, and how long to be silent after what.

Pauses: a poll that was held starts the next at once; one that was not waits for the poll interval; an answer that
brings a change is followed at once, a few times. Failures back off exponentially with full jitter, a refused
credential for long; ``Retry-After`` is obeyed. 502, 504 and a closed connection after a held poll count as an
unchanged poll, because proxies cut there.

Deliberately decides nothing about updates: ``core`` does. Sans-IO: see ``commands``.
"""

from dataclasses import dataclass
from typing import Final

from fleetvisor.agent import state as states
from fleetvisor.agent.commands import Failure, Keep, Poll, Polled, Script, Taken, Tell, Unchanged, Unexpected, Wait
from fleetvisor.agent.state import RESERVE, Reborn, Record, Reserved, State
from fleetvisor.ground.clock import Entropy
from fleetvisor.protocol.native import Desired, Report, Running, UpdateReport

_HASTY_MAX: Final = 3
_RETRY_AFTER_MAX_S: Final = 86_400
_CUT: Final = frozenset({None, 502, 504})


@dataclass(frozen=True, slots=True)
class Options:
    """The agent's habits; times in seconds."""

    wait_s: int = 50
    block_bytes: int = 16 << 10
    check_every_s: float = 10.0
    trial_s: float = 600.0
    leave_every_s: float = 5.0
    backoff_base_s: float = 1.0
    backoff_max_s: float = 300.0
    unproven_s: float = 900.0
    poll_interval_s: int = 60
    refusals_max: int = 3


class Talk:
    """What this run of the agent knows of the server, and the requests it makes."""

    def __init__(self, state: State, options: Options, entropy: Entropy) -> None:
        """Start after a boot: nothing is known of the server yet."""
        self.state = state
        self.now_s = 0.0
        self.desired: Desired | None = None
        self.news = False
        self._etag: str | None = None
        self._options = options
        self._entropy = entropy
        self._sequence = state.sequence_reserved - RESERVE
        self._attempts = 0
        self._hasty = 0
        self._not_before_s = 0.0
        self._checked_s = 0.0

    def keep(self, record: Record) -> Script[None]:
        """Make a record durable, and move the state with it."""
        yield Keep(record)
        self.state = states.apply(self.state, record)

    def tell(self, update: UpdateReport | None) -> Script[Taken | Failure]:
        """Send one report, under a sequence number never used before."""
        if self._sequence >= self.state.sequence_reserved:
            yield from self.keep(Reserved())
        self._sequence += 1
        image = self.state.running
        report = Report(
            journal=self.state.journal,
            sequence=self._sequence,
            running=Running() if image is None else Running(manifest=image.manifest, app=image.app_sid),
            update=update,
            boot_count=self.state.boot_count,
            wake_reason=self.state.wake_reason,
        )
        event = yield Tell(report)
        if not isinstance(event, Taken | Failure):
            raise Unexpected(event)
        return event

    def insist(self, update: UpdateReport | None, *, for_s: float | None = None) -> Script[bool]:
        """Send a report until the server has taken it; give up when it is refused, or after ``for_s`` seconds.

        A report that is acknowledged but not taken means that our count is behind (an older copy of the
        flash came back): it is sent again under a new journal id.
        """
        deadline_s = None if for_s is None else self.now_s + for_s
        attempts = 0
        reborn = False
        while True:
            event = yield from self.tell(update)
            if isinstance(event, Taken) and event.taken:
                return True
            if isinstance(event, Taken) and not reborn:
                yield from self.keep(Reborn(self._entropy.token(16).hex()))
                self._sequence = 0
                reborn = True
                continue
            failure = event if isinstance(event, Failure) else Failure(None, "acknowledged but not taken")
            if failure.refused and deadline_s is None:
                return False
            attempts += 1
            pause_s = self._backoff(failure, attempts)
            if deadline_s is not None and self.now_s + pause_s >= deadline_s:
                return False
            yield Wait(pause_s)

    def poll(self) -> Script[None]:
        """Wait until the next poll is due, and make it, held by the server if it can."""
        if self._not_before_s > self.now_s:
            yield Wait(self._not_before_s - self.now_s)
        started_s = self.now_s
        wait_s = 0 if self._etag is None else self._options.wait_s
        event = yield Poll(self._etag, wait_s)
        held = wait_s > 0 and self.now_s - started_s >= wait_s / 2
        interval_s = self._interval_s() * (0.9 + 0.2 * self._entropy.fraction())
        self._checked_s = self.now_s
        match event:
            case Polled():
                self._learn(event)
                self._hasty = 0 if held else self._hasty + 1
                self._not_before_s = started_s + interval_s if self._hasty > _HASTY_MAX else self.now_s
            case Unchanged(retry_after_s):
                self._attempts = self._hasty = 0
                if retry_after_s is not None:
                    self._not_before_s = self.now_s + self._after(retry_after_s)
                else:
                    self._not_before_s = self.now_s if held else started_s + interval_s
            case Failure(status) if held and status in _CUT:
                self._attempts = 0
                self._not_before_s = self.now_s + self._backoff(event, 0)
            case Failure():
                self._attempts += 1
                self._not_before_s = self.now_s + self._backoff(event, self._attempts)
            case _:
                raise Unexpected(event)

    def check(self, *, at_once: bool = False) -> Script[None]:
        """Look whether the desired state changed, without being held, if the last look is some time ago."""
        if not at_once and self.now_s - self._checked_s < self._options.check_every_s:
            return
        self._checked_s = self.now_s
        event = yield Poll(self._etag, 0)
        if isinstance(event, Polled):
            self._learn(event)

    def pause(self, failure: Failure, attempts: int) -> Script[None]:
        """Be silent after the failure that is the ``attempts``-th in a row (from 1)."""
        yield Wait(self._backoff(failure, attempts))

    def take_news(self) -> bool:
        """Return whether the desired state came anew since this was last asked."""
        news, self.news = self.news, False
        return news

    def _learn(self, event: Polled) -> None:
        self.desired, self._etag = event.desired, event.etag
        self.news = True
        self._attempts = 0

    def _interval_s(self) -> int:
        return self._options.poll_interval_s if self.desired is None else max(1, self.desired.poll_interval_s)

    def _after(self, retry_after_s: int) -> float:
        return min(retry_after_s, _RETRY_AFTER_MAX_S) + self._entropy.fraction() * min(retry_after_s, 30)

    def _backoff(self, failure: Failure, attempts: int) -> float:
        options = self._options
        if failure.retry_after_s is not None:
            return self._after(failure.retry_after_s)
        if failure.unproven:
            return options.unproven_s * (0.5 + self._entropy.fraction())
        limit_s = min(options.backoff_max_s, options.backoff_base_s * 2.0 ** min(attempts, 30))
        return self._entropy.fraction() * limit_s
