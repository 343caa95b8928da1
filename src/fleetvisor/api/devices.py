"""The Device resource: list, fetch, update; and, as extensions, register, remove, and its updates."""

from typing import Final, Literal
from urllib.parse import urlencode

from msgspec import UNSET, UnsetType

from fleetvisor.api import paging
from fleetvisor.api.forms import all_texts, find_flag, find_selector, find_text
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.api.shapes import (
    AttributesShape,
    DeviceCountsShape,
    DeviceGroupShape,
    DeviceShape,
    NewDeviceShape,
    UpdateDetailShape,
    UpdateShape,
    attributes_shape,
    device_shape,
    new_device_shape,
    update_detail_shape,
    update_shape,
)
from fleetvisor.features.devices.attributes import Attributes
from fleetvisor.features.devices.model import DeviceChange, Registration
from fleetvisor.features.devices.selectors import EVERYTHING
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.updates.service import Updates
from fleetvisor.ground.errors import AccessDenied, Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.lifecycle import Mode
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.requests import Fields
from fleetvisor.web.urls import Urls

_NUMBER_DIGITS_MAX: Final = 10

_UPDATE_PARAMS: Final = (
    Param("UniqueName", "A unique and addressable name for this Device; empty unsets it."),
    Param("TargetApp", "The SID or unique name of the App this Device should run; empty clears the target."),
    Param("LoggingEnabled", "Switches application logging on for 24 hours, or off.", "boolean"),
    Param("RestartApp", "Asks the Device to restart its App once.", "boolean"),
    Param("AppSid", "The old name of TargetApp.", deprecated=True, extension=True),
    Param("CancelUpdate", "Cancels the open update and targets what the Device reports.", "boolean", extension=True),
    Param("UpdateMode", "How the update is offered over DDI: forced (default), attempt or skip.", extension=True),
    Param("Confirm", "Whether somebody at the Device must consent first (DDI).", "boolean", extension=True),
    Param("PollInterval", "Seconds between the Device's polls; empty takes the server's.", "integer", extension=True),
    Param(
        "HardwareClass", "What kind of board it is: Apps of another class are refused; empty clears.", extension=True
    ),
    Param("Labels", "key=value sets a label, key- removes it; may be repeated.", extension=True, repeated=True),
    Param("OfferAgain", "Makes a new update to the target, whatever the Device reports.", "boolean", extension=True),
    Param("ForgetReport", "Forgets what the Device reports; its target is offered again.", "boolean", extension=True),
    Param("BeginAnew", "Forgets the Device's journal: its next report is taken.", "boolean", extension=True),
    Param("RequestAttributes", "Asks a DDI Device for its attributes again.", "boolean", extension=True),
    Param(
        "ControllerId", "By what its board asks over DDI; empty: by its SID only. A rename leaves it.", extension=True
    ),
    Param("Access", "active, or disabled: then the Device is refused at once.", extension=True),
    Param(
        "AccountSecrets", "Whether the Device may fetch the account's Secrets; true needs the role admin.", "boolean",
        extension=True,
    ),
)  # fmt: skip
_SELECTOR: Final = Param(
    "Selector", "Only Devices that it selects, such as site=graz,seen<5m; * is all.", extension=True, blank=True
)
_BY: Final = Param(
    "By",
    "status, app, target, hardware, access or the key of a label, such as site: count for each value.",
    extension=True,
)
_CREATE_PARAMS: Final = (
    Param("UniqueName", "A unique and addressable name for this Device.", extension=True, blank=True),
    Param("Sid", "The SID of a board that already has one; else a new one is made.", extension=True),
    Param("HardwareClass", "What kind of board it is: Apps of another class are refused.", extension=True, blank=True),
    Param("Labels", "key=value: a label; may be repeated.", extension=True, repeated=True),
    Param(
        "AccountSecrets", "Whether it may fetch the account's Secrets; by default if an admin makes it.", "boolean",
        extension=True,
    ),
    Param(
        "ControllerId", "By what its board asks over DDI; absent: its UniqueName, if free; empty: its SID only.",
        extension=True, blank=True,
    ),
)  # fmt: skip


class DeviceHandlers:
    """What the Device paths do."""

    def __init__(
        self, *, devices: Devices, updates: Updates, attributes: Attributes, limits: Limits, urls: Urls
    ) -> None:
        """Keep the services."""
        self._devices = devices
        self._updates = updates
        self._attributes = attributes
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("MicrovisorV1Device",)
        one = "/v1/Devices/{Sid}"
        return [
            Route(
                "GET", "/v1/Devices", "ListDevice", "Retrieve a list of all Devices of the account.", self._list,
                DeviceShape, "devices", params=(_SELECTOR,), errors=(400, 401, 429), tags=tags,
            ),
            Route(
                "GET", "/v1/DeviceCounts", "FetchDeviceCounts", "Count Devices, by a field or a label.", self._count,
                DeviceCountsShape, params=(_SELECTOR, _BY), errors=(400, 401, 429, 503), extension=True, tags=tags,
                scans=True,
            ),
            Route("GET", one, "FetchDevice", "Fetch a specific Device.", self._fetch, DeviceShape, tags=tags),
            Route(
                "POST", one, "UpdateDevice", "Update a specific Device.", self._update, DeviceShape,
                params=_UPDATE_PARAMS, errors=(400, 401, 404, 409, 413, 415, 429), tags=tags,
            ),
            Route(
                "POST", "/v1/Devices", "CreateDevice", "Register a Device.", self._create, NewDeviceShape,
                status=201, params=_CREATE_PARAMS, errors=(400, 401, 409, 413, 415, 429), extension=True, tags=tags,
            ),
            Route(
                "DELETE", one, "DeleteDevice", "Remove a Device.", self._delete, status=204, extension=True, tags=tags
            ),
            Route(
                "GET", "/v1/Devices/{DeviceSid}/Updates", "ListDeviceUpdate",
                "Retrieve a Device's updates, newest first.", self._list_updates, UpdateShape, "updates",
                extension=True, tags=tags,
            ),
            Route(
                "GET", "/v1/Devices/{DeviceSid}/Updates/{Number}", "FetchDeviceUpdate",
                "Fetch one update of a Device, with what the Device said about it.", self._fetch_update,
                UpdateDetailShape, extension=True, tags=tags,
            ),
            Route(
                "GET", "/v1/Devices/{DeviceSid}/Attributes", "FetchDeviceAttributes",
                "Fetch what a Device says about itself.", self._fetch_attributes, AttributesShape,
                extension=True, tags=tags,
            ),
        ]  # fmt: skip

    async def _list(self, call: Call) -> Answer:
        account_sid, query = call.caller.account_sid, call.request.query()
        selector = find_selector(query)
        wanted = f"&{urlencode({'Selector': selector})}" if selector else ""
        name = paging.ListName("/v1/Devices", account_sid, "devices", (int, str), wanted)
        asked = paging.parse_paging(query, name, self._limits)
        if selector is not None and selector != EVERYTHING:
            page = await self._devices.select(account_sid, selector, asked.request)
        else:
            page = await self._devices.list(account_sid, asked.request)
        shapes = [device_shape(device, self._urls) for device in page.items]
        warnings = await self._devices.warnings(account_sid, selector) if selector else None
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base, warnings))

    async def _count(self, call: Call) -> Answer:
        query = call.request.query()
        selector, by = find_selector(query) or "", find_text(query, "By") or None
        counts = await self._devices.count(call.caller.account_sid, selector, by)
        groups = [DeviceGroupShape(group.value, group.count) for group in counts.groups]
        warnings = await self._devices.warnings(call.caller.account_sid, selector, by)
        account_sid = call.caller.account_sid
        return json_answer(DeviceCountsShape(account_sid, selector, by, counts.total, groups, counts.others, warnings))

    async def _fetch(self, call: Call) -> Answer:
        device = await self._devices.get(call.caller.account_sid, call.args[0])
        return json_answer(device_shape(device, self._urls))

    async def _update(self, call: Call) -> Answer:
        _may_grant(call)
        change = _change(call.form)
        admin = call.caller.may("admin")
        device = await self._devices.update(call.caller.account_sid, call.args[0], change, by_admin=admin)
        return json_answer(device_shape(device, self._urls))

    async def _create(self, call: Call) -> Answer:
        granted = _may_grant(call)
        wanted = Registration(
            find_text(call.form, "UniqueName") or None,
            find_text(call.form, "Sid") or None,
            find_text(call.form, "HardwareClass") or None,
            all_texts(call.form, "Labels"),
            call.caller.may("admin") if granted is None else granted,
            _controller(call.form),
        )
        made = await self._devices.create(call.caller.account_sid, wanted)
        return json_answer(new_device_shape(made.device, made.device_token, self._urls), 201)

    async def _delete(self, call: Call) -> Answer:
        await self._devices.delete(call.caller.account_sid, call.args[0])
        return Answer(204)

    async def _list_updates(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        device_sid = await self._devices.resolve(account_sid, call.args[0])
        name = paging.ListName(f"/v1/Devices/{device_sid}/Updates", account_sid, "updates", (int,))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._updates.list(account_sid, device_sid, asked.request)
        shapes = [update_shape(update) for update in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch_update(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        device_sid = await self._devices.resolve(account_sid, call.args[0])
        number = call.args[1]
        if not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX):
            raise NotFound("No Update of this Device has the given number.")
        update = await self._updates.get(account_sid, device_sid, int(number))
        return json_answer(update_detail_shape(update, await self._updates.log(account_sid, device_sid, update.number)))

    async def _fetch_attributes(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        device_sid = await self._devices.resolve(account_sid, call.args[0])
        return json_answer(attributes_shape(device_sid, await self._attributes.get(account_sid, device_sid)))


def _change(form: Fields) -> DeviceChange:
    """Read what an update asks for. Raises ``Invalid``."""
    name = find_text(form, "UniqueName")
    target, alias = find_text(form, "TargetApp"), find_text(form, "AppSid")
    if target is not None and alias is not None and target != alias:
        raise Invalid("TargetApp and its old alias AppSid differ: send one of them.")
    target = alias if target is None else target
    hardware_class = find_text(form, "HardwareClass")
    return DeviceChange(
        unique_name=UNSET if name is None else name or None,
        target_app=UNSET if target is None else target or None,
        logging_enabled=find_flag(form, "LoggingEnabled"),
        restart=find_flag(form, "RestartApp") or False,
        cancel_update=find_flag(form, "CancelUpdate") or False,
        mode=_mode(form),
        confirm=find_flag(form, "Confirm"),
        poll_interval_s=_interval(form),
        access=_access(form),
        hardware_class=UNSET if hardware_class is None else hardware_class or None,
        labels=all_texts(form, "Labels"),
        account_secrets=find_flag(form, "AccountSecrets"),
        controller_id=_controller(form),
        offer_again=find_flag(form, "OfferAgain") or False,
        forget_report=find_flag(form, "ForgetReport") or False,
        request_attributes=find_flag(form, "RequestAttributes") or False,
        begin_anew=find_flag(form, "BeginAnew") or False,
    )


def _may_grant(call: Call) -> bool | None:
    """Return what ``AccountSecrets`` says. Raises ``AccessDenied`` when only an admin may say so, and ``Invalid``."""
    granted = find_flag(call.form, "AccountSecrets")
    if granted and not call.caller.may("admin"):
        raise AccessDenied("AccountSecrets=true needs the role admin: it lets the Device fetch the account's Secrets.")
    return granted


def _controller(form: Fields) -> str | UnsetType | None:
    text = find_text(form, "ControllerId")
    return UNSET if text is None else text or None


def _mode(form: Fields) -> Mode | None:
    match find_text(form, "UpdateMode"):
        case None:
            return None
        case "forced" | "attempt" | "skip" as mode:
            return mode
        case _:
            raise Invalid("UpdateMode must be forced, attempt or skip.")


def _access(form: Fields) -> Literal["active", "disabled"] | None:
    match find_text(form, "Access"):
        case None:
            return None
        case "active" | "disabled" as access:
            return access
        case _:
            raise Invalid("Access must be active or disabled.")


def _interval(form: Fields) -> int | UnsetType | None:
    text = find_text(form, "PollInterval")
    if text is None:
        return UNSET
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _NUMBER_DIGITS_MAX:
        raise Invalid("PollInterval must be a number of seconds.")
    return int(text)
