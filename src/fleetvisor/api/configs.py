"""Configs and Secrets, of the account and of one Device: four resources with the same five operations."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from fleetvisor.api import paging
from fleetvisor.api.forms import get_text
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.api.shapes import (
    AccountConfigShape,
    AccountSecretShape,
    DeviceConfigShape,
    DeviceSecretShape,
    config_shape,
    secret_shape,
)
from fleetvisor.features.configs.model import Entry, Owner, Store
from fleetvisor.features.configs.service import Configs
from fleetvisor.features.devices.service import Devices
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls


class _Kind(NamedTuple):
    store: Store
    of_device: bool
    shape: type[msgspec.Struct]

    @property
    def noun(self) -> str:
        return "Config" if self.store is Store.CONFIG else "Secret"

    @property
    def base(self) -> str:
        return f"/v1/Devices/{{DeviceSid}}/{self.noun}s" if self.of_device else f"/v1/{self.noun}s"


_KINDS: Final = (
    _Kind(Store.CONFIG, False, AccountConfigShape),
    _Kind(Store.SECRET, False, AccountSecretShape),
    _Kind(Store.CONFIG, True, DeviceConfigShape),
    _Kind(Store.SECRET, True, DeviceSecretShape),
)
_Verb = Callable[[Call, _Kind], Awaitable[Answer]]


class ConfigHandlers:
    """What the Config and Secret paths do."""

    def __init__(self, *, configs: Configs, devices: Devices, limits: Limits, urls: Urls) -> None:
        """Keep the services."""
        self._configs = configs
        self._devices = devices
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the twenty operations."""
        return [route for kind in _KINDS for route in self._routes(kind)]

    def _routes(self, kind: _Kind) -> list[Route]:
        def verb(run: _Verb) -> Callable[[Call], Awaitable[Answer]]:
            return lambda call: run(call, kind)

        noun, whose = kind.noun, "Device" if kind.of_device else "Account"
        name = f"{whose}{noun}"
        article = f"{noun} for {'a Device' if kind.of_device else 'an Account'}"
        one = f"{kind.base}/{{Key}}"
        key = Param("Key", f"The {noun.lower()} key; up to 100 characters.", required=True, chars_max=100)
        value = Param("Value", f"The {noun.lower()} value; up to 4096 characters.", required=True, chars_max=4096)
        tags = (f"MicrovisorV1{name}",)
        writing = (400, 401, 404, 409, 413, 415, 429)
        return [
            Route(
                "GET", kind.base, f"List{name}", f"Retrieve a list of all {noun}s.", verb(self._list), kind.shape,
                f"{noun.lower()}s", tags=tags,
            ),
            Route(
                "POST", kind.base, f"Create{name}", f"Create a {article}.", verb(self._create), kind.shape,
                status=201, params=(key, value), errors=writing, tags=tags,
            ),
            Route("GET", one, f"Fetch{name}", f"Retrieve a {article}.", verb(self._fetch), kind.shape, tags=tags),
            Route(
                "POST", one, f"Update{name}", f"Update a {article}.", verb(self._set), kind.shape,
                params=(value,), errors=writing, tags=tags,
            ),
            Route("DELETE", one, f"Delete{name}", f"Delete a {article}.", verb(self._delete), status=204, tags=tags),
        ]  # fmt: skip

    async def _owner(self, call: Call, kind: _Kind) -> tuple[Owner, tuple[str, ...]]:
        """Return whose values the path names, and the path's remaining variable parts."""
        account_sid = call.caller.account_sid
        if not kind.of_device:
            return Owner(account_sid), call.args
        return Owner(account_sid, await self._devices.resolve(account_sid, call.args[0])), call.args[1:]

    def _shape(self, entry: Entry, owner: Owner, kind: _Kind) -> Any:  # noqa: ANN401  (one of four structs)
        render = config_shape if kind.store is Store.CONFIG else secret_shape
        return render(entry, owner.device_sid, self._urls)

    async def _list(self, call: Call, kind: _Kind) -> Answer:
        owner, _ = await self._owner(call, kind)
        path = kind.base.replace("{DeviceSid}", owner.sid)
        name = paging.ListName(path, owner.account_sid, f"{kind.noun.lower()}s", (str,))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._configs.list(owner, kind.store, asked.request)
        shapes = [self._shape(entry, owner, kind) for entry in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _create(self, call: Call, kind: _Kind) -> Answer:
        key, value = get_text(call.form, "Key"), get_text(call.form, "Value")
        owner, _ = await self._owner(call, kind)
        entry = await self._configs.create(owner, kind.store, key, value)
        return json_answer(self._shape(entry, owner, kind), 201)

    async def _fetch(self, call: Call, kind: _Kind) -> Answer:
        owner, rest = await self._owner(call, kind)
        return json_answer(self._shape(await self._configs.get(owner, kind.store, rest[0]), owner, kind))

    async def _set(self, call: Call, kind: _Kind) -> Answer:
        value = get_text(call.form, "Value")
        owner, rest = await self._owner(call, kind)
        entry = await self._configs.set(owner, kind.store, rest[0], value)
        return json_answer(self._shape(entry, owner, kind))

    async def _delete(self, call: Call, kind: _Kind) -> Answer:
        owner, rest = await self._owner(call, kind)
        await self._configs.delete(owner, kind.store, rest[0])
        return Answer(204)
