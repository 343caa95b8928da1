"""What happened, newest first (extension): ``GET /v1/Events``, filtered by type, device and time."""

from typing import Final
from urllib.parse import urlencode

from fleetvisor.api import paging
from fleetvisor.api.account_shapes import EventShape, event_shape
from fleetvisor.api.forms import find_moment, find_text
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.events.log import EventLog
from fleetvisor.features.events.store import Filter
from fleetvisor.ground.errors import Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import is_sid, normalize
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls

_TYPE_CHARS_MAX: Final = 64
_NAMES: Final = ("Type", "DeviceSid", "StartDate", "EndDate")
_PARAMS: Final = (
    Param("Type", "Only events of this type, such as device.created or request.denied.", extension=True),
    Param(
        "DeviceSid", "Only events of this Device, by SID (also one that was removed) or unique name.", extension=True
    ),
    Param("StartDate", "Only events from this time on: 2026-01-31T12:00:00Z, or a day.", extension=True),
    Param("EndDate", "Only events before this time, or before this day.", extension=True),
)


class EventHandlers:
    """What the path of events does."""

    def __init__(self, *, log: EventLog, devices: Devices, limits: Limits, urls: Urls) -> None:
        """Keep the services."""
        self._log = log
        self._devices = devices
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operation."""
        return [
            Route(
                "GET", "/v1/Events", "ListEvent", "Retrieve what happened, newest first.", self._list, EventShape,
                "events", params=_PARAMS, extension=True, tags=("Events",),
            )
        ]  # fmt: skip

    async def _list(self, call: Call) -> Answer:
        account_sid, query = call.caller.account_sid, call.request.query()
        given = {name: text for name in _NAMES if (text := find_text(query, name))}
        name = paging.ListName("/v1/Events", account_sid, "events", (int, int), f"&{urlencode(given)}" if given else "")
        asked = paging.parse_paging(query, name, self._limits)
        device = given.get("DeviceSid")
        wanted = Filter(
            type=given.get("Type"),
            device_sid=None if device is None else await self._device(call, device),
            since=find_moment(query, "StartDate"),
            until=find_moment(query, "EndDate"),
        )
        if len(wanted.type or "") > _TYPE_CHARS_MAX:
            raise Invalid(f"Type has more than {_TYPE_CHARS_MAX} characters.")
        page = await self._log.list(account_sid, wanted, asked.request)
        shapes = [event_shape(event) for event in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _device(self, call: Call, ref: str) -> str:
        if is_sid(ref, "UV"):
            return normalize(ref)
        try:
            return await self._devices.resolve(call.caller.account_sid, ref)
        except NotFound as error:
            raise Invalid("DeviceSid: no Device of this account has this SID or unique name.") from error
