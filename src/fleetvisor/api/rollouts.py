"""Rollouts (extension): drafted, planned, started, watched, ended; and the penalties of devices."""

from typing import Final, Literal
from urllib.parse import urlencode

from fleetvisor.api import guard_form, paging
from fleetvisor.api.forms import find_bounded, find_moment, find_number, find_selector, find_text
from fleetvisor.api.rollout_shapes import (
    DecisionShape,
    PlanShape,
    RolloutDeviceShape,
    RolloutShape,
    decision_shape,
    plan_shape,
    rollout_device_shape,
    rollout_shape,
)
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.features.rollouts import rules
from fleetvisor.features.rollouts.model import Action, Draft
from fleetvisor.features.rollouts.service import Pace, Rollouts
from fleetvisor.features.updates.model import STATES
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label
from fleetvisor.ground.sids import normalize
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.requests import Fields
from fleetvisor.web.urls import Urls

_NAME_CHARS_MAX: Final = 64
_PACE_MAX: Final = 10_000_000
_SAMPLE: Final = 10
_PACE_PARAMS: Final = (
    Param(
        "MaxConcurrent", "How many Devices may be updating at one time, not counting those that are offline or silent;"
        " 0 is no limit.", "integer", extension=True,
    ),
    Param("StartsPerMinute", "How many updates it may start in a minute; 0 is no limit.", "integer", extension=True),
)  # fmt: skip
_CREATE: Final = (
    Param("App", "The SID or unique name of the App to release.", extension=True),
    Param("Selector", "Which Devices, such as site=graz; * is all. A release needs it.", extension=True, blank=True),
    Param("Waves", "How far each wave goes, such as 1%,10%,50%,100% or 5,10%,100%.", extension=True),
    Param("FriendlyName", "What it is for; up to 64 characters.", extension=True, blank=True,
          chars_max=_NAME_CHARS_MAX),
    Param("Kind", "release (default), or rollback.", extension=True),
    Param("RollbackOf", "The Rollout to roll back: each Device gets the App that it ran before.", extension=True),
    *guard_form.PARAMS,
    Param("KnownSince", "Only Devices made before this time count as evidence for the guard; the start without it.",
          extension=True),
    *_PACE_PARAMS,
)  # fmt: skip
_CHANGE: Final = (
    Param("Action", "start, pause, resume, abort, retry or release.", extension=True),
    Param("StartAt", "With start: when, such as 2026-01-31T12:00:00Z, a minute ago at most; at once without it.",
          extension=True),
    Param("Wave", "With release: the number of the wave to release; refused when another one is open.", "integer",
          extension=True),
    *_PACE_PARAMS,
)  # fmt: skip
_DEVICES: Final = (
    Param("State", f"Only Devices in this state: {', '.join(STATES)}.", extension=True),
    Param("Selector", "Only Devices that this selects now; a page may be short.", extension=True, blank=True),
)
_PLAN: Final = (Param("Sample", "How many Devices of each wave to name; 10 by default.", "integer", extension=True),)
_WRITE_ERRORS: Final = (400, 401, 404, 409, 413, 415, 429)


class RolloutHandlers:
    """What the paths of rollouts do."""

    def __init__(self, *, rollouts: Rollouts, clock: Clock, limits: Limits, urls: Urls) -> None:
        """Keep the services."""
        self._rollouts = rollouts
        self._clock = clock
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("Rollouts",)
        many, one = "/v1/Rollouts", "/v1/Rollouts/{Sid}"
        of = "/v1/Rollouts/{RolloutSid}"
        return [
            Route(
                "POST", many, "CreateRollout", "Draft a Rollout; nothing happens before it is started.", self._create,
                RolloutShape, status=201, params=_CREATE, errors=(400, 401, 409, 413, 415, 429), extension=True,
                tags=tags,
            ),
            Route(
                "GET", many, "ListRollout", "Retrieve a list of Rollouts, newest first.", self._list, RolloutShape,
                "rollouts", extension=True, tags=tags,
            ),
            Route("GET", one, "FetchRollout", "Fetch a Rollout.", self._fetch, RolloutShape, extension=True, tags=tags),
            Route(
                "POST", one, "UpdateRollout", "Start, pause, resume, abort, retry or release a Rollout.", self._change,
                RolloutShape, params=_CHANGE, errors=_WRITE_ERRORS, extension=True, tags=tags,
            ),
            Route(
                "DELETE", one, "DeleteRollout", "Remove a Rollout that is not under way.", self._delete, status=204,
                errors=(401, 404, 409, 429), extension=True, tags=tags,
            ),
            Route(
                "GET", f"{of}/Plan", "FetchRolloutPlan", "Show what a Rollout would do if it began now.", self._plan,
                PlanShape, params=_PLAN, errors=(400, 401, 404, 429, 503), extension=True, tags=tags, scans=True,
            ),
            Route(
                "GET", f"{of}/Decisions", "ListRolloutDecision", "Retrieve what was decided, newest first.",
                self._decisions, DecisionShape, "decisions", extension=True, tags=tags,
            ),
            Route(
                "GET", f"{of}/Devices", "ListRolloutDevice", "Retrieve what became of each Device.", self._devices,
                RolloutDeviceShape, "rollout_devices", params=_DEVICES, extension=True, tags=tags,
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> Answer:
        view = await self._rollouts.create(call.caller.account_sid, _draft(call.form, self._limits))
        return json_answer(rollout_shape(view, self._clock.now(), self._urls), 201)

    async def _list(self, call: Call) -> Answer:
        name = paging.ListName("/v1/Rollouts", call.caller.account_sid, "rollouts", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._rollouts.list(call.caller.account_sid, asked.request)
        shapes = [rollout_shape(view, self._clock.now(), self._urls) for view in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch(self, call: Call) -> Answer:
        view = await self._rollouts.get(call.caller.account_sid, call.args[0])
        return json_answer(rollout_shape(view, self._clock.now(), self._urls))

    async def _change(self, call: Call) -> Answer:
        action = _action(call.form)
        start_at = find_moment(call.form, "StartAt", is_exact=True)
        if start_at is not None and action != "start":
            raise Invalid("StartAt goes with Action=start.")
        wave = None if find_text(call.form, "Wave") is None else find_number(call.form, "Wave", 0)
        if wave is not None and action != "release":
            raise Invalid("Wave goes with Action=release.")
        pace = Pace(_pace(call.form, "MaxConcurrent"), _pace(call.form, "StartsPerMinute"))
        if not call.form:
            raise Invalid("Nothing is asked for: send Action, MaxConcurrent or StartsPerMinute.")
        view = await self._rollouts.change(
            call.caller.account_sid, call.args[0], action, pace, start_at=start_at, wave=wave
        )
        return json_answer(rollout_shape(view, self._clock.now(), self._urls))

    async def _delete(self, call: Call) -> Answer:
        await self._rollouts.delete(call.caller.account_sid, call.args[0])
        return Answer(204)

    async def _plan(self, call: Call) -> Answer:
        sample = find_number(call.request.query(), "Sample", _SAMPLE)
        view = await self._rollouts.get(call.caller.account_sid, call.args[0])
        rollout, plan = await self._rollouts.plan(call.caller.account_sid, call.args[0], sample)
        return json_answer(plan_shape(rollout, plan, view.waves))

    async def _decisions(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        rollout = await self._rollouts.find(account_sid, call.args[0])
        path = f"/v1/Rollouts/{rollout.rollout_sid}/Decisions"
        name = paging.ListName(path, account_sid, "decisions", (int,))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._rollouts.rulings(account_sid, call.args[0], asked.request)
        shapes = [decision_shape(ruling) for ruling in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _devices(self, call: Call) -> Answer:
        account_sid, query = call.caller.account_sid, call.request.query()
        rollout = await self._rollouts.find(account_sid, call.args[0])
        state = find_text(query, "State") or None
        if state is not None and state not in STATES:
            raise Invalid(f"State must be one of {', '.join(STATES)}.")
        selector = find_selector(query) or ""
        wanted = {name: value for name, value in (("State", state), ("Selector", selector)) if value}
        path = f"/v1/Rollouts/{rollout.rollout_sid}/Devices"
        name = paging.ListName(path, account_sid, "rollout_devices", (str,), f"&{urlencode(wanted)}" if wanted else "")
        asked = paging.parse_paging(query, name, self._limits)
        page = await self._rollouts.members(account_sid, call.args[0], state, selector, asked.request)
        shapes = [rollout_device_shape(member) for member in page.items]
        warnings = await self._rollouts.warnings(account_sid, selector) if selector else None
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base, warnings))


def _draft(form: Fields, limits: Limits) -> Draft:
    """Read what a new rollout is to be. Raises ``Invalid``."""
    kind, app, of = _kind(form), find_text(form, "App") or None, find_text(form, "RollbackOf") or None
    selector = find_selector(form)
    if kind == "release" and (app is None or of is not None):
        raise Invalid("A release needs an App, and no RollbackOf (with Kind=rollback it is the other way round).")
    if kind == "release" and selector is None:
        raise Invalid("A release needs a Selector: which Devices, as in site=graz; * selects all of them.")
    if kind == "rollback" and (of is None or app is not None or selector):
        raise Invalid("A rollback needs RollbackOf, and neither App nor Selector: it takes back what that one did.")
    name = find_text(form, "FriendlyName") or ""
    if name:
        check_label("FriendlyName", name, _NAME_CHARS_MAX)
    return Draft(
        kind=kind,
        app=app,
        rollback_of=None if of is None else normalize(of),
        selector=selector or "",
        friendly_name=name,
        waves=rules.parse_waves(find_text(form, "Waves") or _default_waves(kind), limits),
        guard=guard_form.parse(form),
        concurrent_max=_pace(form, "MaxConcurrent") or 0,
        starts_per_minute=_pace(form, "StartsPerMinute") or 0,
        known_since=find_moment(form, "KnownSince"),
    )


def _default_waves(kind: str) -> str:
    return "1%,10%,50%,100%" if kind == "release" else "100%"


def _pace(form: Fields, name: str) -> int | None:
    return None if find_text(form, name) is None else find_bounded(form, name, 0, _PACE_MAX)


def _kind(form: Fields) -> Literal["release", "rollback"]:
    match find_text(form, "Kind") or None:
        case None:
            return "release"
        case "release" | "rollback" as kind:
            return kind
        case _:
            raise Invalid("Kind must be release or rollback.")


def _action(form: Fields) -> Action | None:
    text = find_text(form, "Action") or None
    if text is None:
        return None
    if text not in rules.ACTIONS:
        raise Invalid(f"Action must be one of {', '.join(rules.ACTIONS)}.")
    return text
