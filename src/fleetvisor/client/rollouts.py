"""Rollouts as typed calls: drafted, planned, started, followed, ended.

Beside ``resources`` as ``api/rollouts`` is beside ``api/devices``. Deliberately no domain rules: the server decides,
this asks. Spec: our extensions in ``docs/divergences.md`` and ``docs/reference/rest-api.md``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from fleetvisor.client.resources import Resource, make_form, read, segment, walk
from fleetvisor.protocol.guard_settings import GuardSettings, Value, render_form

if TYPE_CHECKING:
    from fleetvisor.client.http import Form, Http

_ROLLOUTS: Final = "/v1/Rollouts"
#: The selector that selects every device.
EVERYTHING: Final = "*"
Action = Literal["start", "pause", "resume", "abort", "retry", "release"]


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """How a new rollout is to go, in the words of the API; the server chooses what is absent.

    ``guard``: settings of the guard by name, such as ``{"soak": 600, "limit": "2%"}``; times are seconds.
    """

    name: str | None = None
    waves: str | None = None
    guard: Mapping[str, Value] = msgspec.field(default_factory=dict[str, Value])
    concurrent_max: int | None = None
    starts_per_minute: int | None = None
    known_since: str | None = None


class Wave(msgspec.Struct, kw_only=True):
    """A wave, and how many of its devices are in each state."""

    position: int
    size: str
    state: str
    counts: dict[str, int] = msgspec.field(default_factory=dict[str, int])


class WaitsFor(msgspec.Struct, kw_only=True):
    """What a rollout waits for, and until when, if that is known."""

    code: str
    sentence: str
    until: str | None = None


class Decision(Resource, kw_only=True):
    """What the guard or an operator decided. ``document`` is there only where it was read from a list."""

    number: int
    wave: int
    verdict: str
    code: str
    sentence: str
    numbers: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    date_created: str | None = None


class Rollout(Resource, kw_only=True):
    """A rollout with its waves, counts, failure rate and newest decision."""

    sid: str
    friendly_name: str = ""
    kind: str = "release"
    app_sid: str | None = None
    rollback_of: str | None = None
    selector: str = ""
    state: str
    wave: int = 0
    waves: list[Wave]
    counts: dict[str, int]
    uncounted: int = 0
    removed_devices: int = 0
    failure_rate: float | None = None
    failure_rate_lower: float = 0.0
    failure_rate_upper: float = 1.0
    guard: GuardSettings
    decision: Decision | None = None
    waits_for: WaitsFor | None = None
    max_concurrent: int = 0
    starts_per_minute: int = 0
    known_since: str | None = None
    retrying: bool = False
    canceling: bool = False
    date_start: str | None = None
    date_started: str | None = None
    date_ended: str | None = None
    date_created: str | None = None
    date_updated: str | None = None

    @property
    def name(self) -> str:
        """Return what people call it: its name, else its SID."""
        return self.friendly_name or self.sid

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it: it has ended, and its open updates are canceled."""
        return self.date_ended is not None and not self.canceling


class PlannedWave(msgspec.Struct, kw_only=True):
    """What a wave would come to."""

    position: int
    size: str
    devices: int
    unchanged: int
    new: int = 0
    sample: list[str]


class LeftOut(msgspec.Struct, kw_only=True):
    """Devices that would be left out, and why."""

    reason: str
    devices: int
    sample: list[str]


class Plan(Resource, kw_only=True):
    """What a rollout would do if it began now. ``beyond``: selected, but in no wave."""

    rollout_sid: str
    selected: int
    beyond: int
    waves: list[PlannedWave]
    left_out: list[LeftOut]
    warnings: list[str] = msgspec.field(default_factory=list[str])


class RolloutDevice(Resource, kw_only=True):
    """What became of one device in a rollout."""

    device_sid: str
    wave: int
    state: str
    reason: str = ""
    error_code: int = 0
    update_number: int | None = None
    attempts: int = 0
    app_sid: str | None = None
    previous_sid: str | None = None
    date_changed: str | None = None


class Rollouts:
    """The calls. Every one raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    def create(self, app: str, selector: str, wanted: Wanted | None = None) -> Rollout:
        """Draft the release of an app, by SID or unique name, to those that ``selector`` selects: ``*`` is all."""
        form = make_form(App=app, Selector=selector)
        return read(self._http.post(_ROLLOUTS, {**form, **_form(wanted or Wanted())}), Rollout)

    def create_rollback(self, of: str, wanted: Wanted | None = None) -> Rollout:
        """Draft the taking back of a rollout: each device gets the app that it ran before."""
        form = make_form(Kind="rollback", RollbackOf=of)
        return read(self._http.post(_ROLLOUTS, {**form, **_form(wanted or Wanted())}), Rollout)

    def list(self) -> Iterator[Rollout]:
        """Walk the rollouts, newest first."""
        return walk(self._http, _ROLLOUTS, "rollouts", Rollout)

    def get(self, sid: str) -> Rollout:
        """Fetch a rollout."""
        return read(self._http.get(_path(sid)), Rollout)

    def plan(self, sid: str, sample: int | None = None) -> Plan:
        """Ask what a rollout would do if it began now; ``sample`` devices of each wave are named."""
        wanted = None if sample is None else {"Sample": sample}
        return read(self._http.get(f"{_path(sid)}/Plan", wanted), Plan)

    def act(
        self,
        sid: str,
        action: Action | None = None,
        *,
        start_at: str | None = None,
        wave: int | None = None,
        concurrent_max: int | None = None,
        starts_per_minute: int | None = None,
    ) -> Rollout:
        """Do one thing to a rollout, and change its pace. All or nothing.

        ``start_at`` goes with ``start``; ``wave`` with ``release``: the one that must be open.
        """
        form = make_form(
            Action=action,
            StartAt=start_at,
            Wave=_number(wave),
            MaxConcurrent=_number(concurrent_max),
            StartsPerMinute=_number(starts_per_minute),
        )
        return read(self._http.post(_path(sid), form), Rollout)

    def delete(self, sid: str) -> None:
        """Remove a rollout that is not under way, with its history."""
        self._http.delete(_path(sid))

    def decisions(self, sid: str) -> Iterator[Decision]:
        """Walk what was decided, newest first."""
        return walk(self._http, f"{_path(sid)}/Decisions", "decisions", Decision)

    def devices(
        self,
        sid: str,
        state: str | None = None,
        selector: str | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Iterator[RolloutDevice]:
        """Walk what became of each device: all, those in one state, or (also) those that ``selector`` selects now."""
        wanted = {name: value for name, value in (("State", state), ("Selector", selector)) if value}
        return walk(self._http, f"{_path(sid)}/Devices", "rollout_devices", RolloutDevice, wanted, warn)


def _form(wanted: Wanted) -> "Form":
    return make_form(
        FriendlyName=wanted.name,
        Waves=wanted.waves,
        **render_form(wanted.guard),
        MaxConcurrent=_number(wanted.concurrent_max),
        StartsPerMinute=_number(wanted.starts_per_minute),
        KnownSince=wanted.known_since,
    )


def _number(number: int | None) -> str | None:
    return None if number is None else str(number)


def _path(sid: str) -> str:
    return f"{_ROLLOUTS}/{segment(sid)}"
