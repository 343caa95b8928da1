"""What proves a Device (extension): its credentials, and keys that are refused."""

from typing import Final

import msgspec

from fleetvisor.api import paging
from fleetvisor.api.forms import find_number, find_text, get_text
from fleetvisor.api.identity_shapes import (
    CredentialShape,
    NewCredentialShape,
    RefusedKeyShape,
    credential_shape,
    refused_key_shape,
)
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.identity.credentials import Credentials
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls

_OVERLAP_S: Final = 24 * 3600
_PARAMS: Final = (
    Param("Type", "token (default): a new device token; key: PublicKey proves the Device.", extension=True),
    Param("Overlap", "Seconds for which older tokens go on; by default a day.", "integer", extension=True),
    Param("PublicKey", "A P-256 key: PEM, or its uncompressed point as base64 or hex.", extension=True),
)


class CredentialHandlers:
    """What the paths of credentials do."""

    def __init__(self, *, devices: Devices, credentials: Credentials, limits: Limits, urls: Urls) -> None:
        """Keep the services."""
        self._devices = devices
        self._credentials = credentials
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("Identity",)
        many = "/v1/Devices/{DeviceSid}/Credentials"
        return [
            Route(
                "GET", many, "ListDeviceCredential", "Retrieve what proves a Device.", self._list, CredentialShape,
                "credentials", extension=True, tags=tags,
            ),
            Route(
                "POST", many, "CreateDeviceCredential", "Make a token for a Device, or add a public key.", self._create,
                NewCredentialShape, status=201, params=_PARAMS, errors=(400, 401, 403, 404, 409, 413, 415, 429),
                extension=True, tags=tags, admin=True,
            ),
            Route(
                "DELETE", many + "/{Fingerprint}", "DeleteDeviceCredential",
                "Remove a credential: it proves nothing any more.", self._delete, status=204, extension=True, tags=tags,
                admin=True,
            ),
            Route(
                "GET", "/v1/RefusedKeys", "ListRefusedKey", "Retrieve the keys that may not enrol again.",
                self._list_refused, RefusedKeyShape, "refused_keys", extension=True, tags=tags,
            ),
            Route(
                "DELETE", "/v1/RefusedKeys/{Fingerprint}", "DeleteRefusedKey", "Let a refused key enrol again.",
                self._free, status=204, extension=True, tags=tags, admin=True,
            ),
        ]  # fmt: skip

    async def _list(self, call: Call) -> Answer:
        device = await self._devices.identify(call.caller.account_sid, call.args[0])
        found = await self._credentials.list(device)
        path = f"/v1/Devices/{device.device_sid}/Credentials"
        name = paging.ListName(path, device.account_sid, "credentials", (int,))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        shapes = [credential_shape(credential, device.device_sid, self._urls) for credential in found]
        page = Page(tuple(found), None, None)  # so few that they are always one page
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _create(self, call: Call) -> Answer:
        device = await self._devices.identify(call.caller.account_sid, call.args[0])
        match find_text(call.form, "Type") or "token":
            case "token" if "PublicKey" in call.form:
                raise Invalid("PublicKey goes with Type=key; a new token needs none, and ends the older ones.")
            case "key" if "Overlap" in call.form:
                raise Invalid("Overlap goes with Type=token: a key that is added ends no other.")
            case "token":
                made = await self._credentials.add_token(device, find_number(call.form, "Overlap", _OVERLAP_S))
            case "key":
                made = await self._credentials.add_key(device, get_text(call.form, "PublicKey"))
            case _:
                raise Invalid("Type must be token or key.")
        shape = credential_shape(made.credential, device.device_sid, self._urls)
        fields = msgspec.structs.asdict(shape)
        return json_answer(NewCredentialShape(**fields, device_token=made.device_token), 201)

    async def _delete(self, call: Call) -> Answer:
        device = await self._devices.identify(call.caller.account_sid, call.args[0])
        await self._credentials.remove(device, call.args[1])
        return Answer(204)

    async def _list_refused(self, call: Call) -> Answer:
        name = paging.ListName("/v1/RefusedKeys", call.caller.account_sid, "refused_keys", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._credentials.list_refused(call.caller.account_sid, asked.request)
        shapes = [refused_key_shape(key, self._urls) for key in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _free(self, call: Call) -> Answer:
        await self._credentials.free(call.caller.account_sid, call.args[0])
        return Answer(204)
