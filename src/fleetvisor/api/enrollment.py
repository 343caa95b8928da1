"""What lets new Devices in (extension): enrolment tokens, a factory's file, and the account's gateway token."""

from pathlib import Path
from typing import Final

import msgspec

from fleetvisor.api import paging
from fleetvisor.api.forms import all_texts, find_flag, find_number, find_text
from fleetvisor.api.identity_shapes import (
    DeviceImportShape,
    EnrollmentTokenShape,
    GatewayTokenShape,
    ImportedShape,
    NewEnrollmentTokenShape,
    NewGatewayTokenShape,
    enrollment_token_shape,
    gateway_token_shape,
)
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.api.uploads import spool
from fleetvisor.features.identity.enrollment import Enrollment
from fleetvisor.features.identity.gateway import Gateway
from fleetvisor.features.identity.imports import Imports
from fleetvisor.features.identity.model import Grant
from fleetvisor.ground.clock import Entropy
from fleetvisor.ground.errors import Invalid, TooManyRequests, UnsupportedMediaType
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.requests import parse_media_type
from fleetvisor.web.urls import Urls

_PARAMS: Final = (
    Param("FriendlyName", "What the token is for; up to 64 characters.", extension=True, chars_max=64, blank=True),
    Param("MaxUses", "How many Devices it lets in; 1 by default.", "integer", extension=True),
    Param("Ttl", "Seconds until it ends; 30 days by default, 0 is no end.", "integer", extension=True),
    Param("HardwareClass", "The hardware class of the Devices born with it.", extension=True, blank=True),
    Param("Labels", "key=value: a label of the Devices born with it; may be repeated.", extension=True, repeated=True),
    Param("AccountSecrets", "true: Devices born with it may fetch the account's Secrets.", "boolean", extension=True),
    Param("Waits", "true: Devices born with it wait to be accepted.", "boolean", extension=True),
)
_RETRY_S: Final = 5
_CSV: Final = "text/csv"
_REVOKE: Final = (Param("Revoked", "true: it lets nobody in any more.", "boolean", required=True, extension=True),)


class EnrollmentHandlers:
    """What the paths of enrolment and gateway tokens do."""

    def __init__(
        self,
        *,
        enrollment: Enrollment,
        gateway: Gateway,
        imports: Imports,
        limits: Limits,
        urls: Urls,
        entropy: Entropy,
        spool: Path,
        offload: Offload,
    ) -> None:
        """Keep the services, and where files are spooled. An account has one import at a time."""
        self._importing: set[str] = set()
        self._entropy = entropy
        self._spool = spool
        self._offload = offload
        self._imports = imports
        self._enrollment = enrollment
        self._gateway = gateway
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("Identity",)
        many, one, gateway = "/v1/EnrollmentTokens", "/v1/EnrollmentTokens/{Sid}", "/v1/GatewayToken"
        return [
            Route(
                "POST", many, "CreateEnrollmentToken", "Make a token that lets new Devices in.", self._create,
                NewEnrollmentTokenShape, status=201, params=_PARAMS, errors=(400, 401, 409, 413, 415, 429),
                extension=True, tags=tags, admin=True,
            ),
            Route(
                "GET", many, "ListEnrollmentToken", "Retrieve a list of enrolment tokens.", self._list,
                EnrollmentTokenShape, "enrollment_tokens", extension=True, tags=tags,
            ),
            Route(
                "GET", one, "FetchEnrollmentToken", "Fetch an enrolment token, without its text.", self._fetch,
                EnrollmentTokenShape, extension=True, tags=tags,
            ),
            Route(
                "POST", one, "UpdateEnrollmentToken", "Revoke an enrolment token.", self._revoke,
                EnrollmentTokenShape, params=_REVOKE, errors=(400, 401, 404, 413, 415, 429),
                extension=True, tags=tags, admin=True,
            ),
            Route(
                "DELETE", one, "DeleteEnrollmentToken", "Remove an enrolment token.", self._delete, status=204,
                extension=True, tags=tags, admin=True,
            ),
            Route(
                "POST", "/v1/DeviceImports", "CreateDeviceImport", "Register the Devices of a CSV file, all or none.",
                self._import, DeviceImportShape, status=201, errors=(400, 401, 409, 413, 415, 429), media=_CSV,
                extension=True, tags=tags,
            ),
            Route(
                "POST", gateway, "CreateGatewayToken", "Let DDI devices register themselves; replaces the token.",
                self._enable, NewGatewayTokenShape, status=201, errors=(400, 401, 413, 415, 429), extension=True,
                tags=tags, admin=True,
            ),
            Route(
                "GET", gateway, "FetchGatewayToken", "Fetch whether there is a gateway token, and who waits.",
                self._state, GatewayTokenShape, errors=(401, 429), extension=True, tags=tags,
            ),
            Route(
                "DELETE", gateway, "DeleteGatewayToken", "Let no more devices register themselves.", self._disable,
                status=204, errors=(401, 404, 429), extension=True, tags=tags, admin=True,
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> Answer:
        grant = Grant(
            friendly_name=find_text(call.form, "FriendlyName") or "",
            uses_max=find_number(call.form, "MaxUses", 1),
            ttl_s=find_number(call.form, "Ttl", Grant().ttl_s),
            hardware_class=find_text(call.form, "HardwareClass") or None,
            labels=all_texts(call.form, "Labels"),
            account_secrets=find_flag(call.form, "AccountSecrets") or False,
            waits=find_flag(call.form, "Waits") or False,
        )
        made = await self._enrollment.create(call.caller.account_sid, grant)
        shape = enrollment_token_shape(made.token, self._urls)
        return json_answer(NewEnrollmentTokenShape(**msgspec.structs.asdict(shape), token=made.secret), 201)

    async def _list(self, call: Call) -> Answer:
        name = paging.ListName("/v1/EnrollmentTokens", call.caller.account_sid, "enrollment_tokens", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._enrollment.list(call.caller.account_sid, asked.request)
        shapes = [enrollment_token_shape(token, self._urls) for token in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch(self, call: Call) -> Answer:
        token = await self._enrollment.get(call.caller.account_sid, call.args[0])
        return json_answer(enrollment_token_shape(token, self._urls))

    async def _revoke(self, call: Call) -> Answer:
        if find_flag(call.form, "Revoked") is not True:
            raise Invalid("Revoked must be true; a token that was revoked stays so.")
        token = await self._enrollment.revoke(call.caller.account_sid, call.args[0])
        return json_answer(enrollment_token_shape(token, self._urls))

    async def _delete(self, call: Call) -> Answer:
        await self._enrollment.delete(call.caller.account_sid, call.args[0])
        return Answer(204)

    async def _import(self, call: Call) -> Answer:
        media, options = parse_media_type(call.request.header(b"content-type"))
        if media != _CSV or options.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType(f"Send the file as {_CSV}, in UTF-8.")
        account_sid, secrets = call.caller.account_sid, call.caller.may("admin")
        if account_sid in self._importing:
            detail = "An import of the account is under way: send this one when it is done."
            raise TooManyRequests(detail, retry_after_s=_RETRY_S)
        self._importing.add(account_sid)
        spooled = self._spool / f"import-{self._entropy.token(16).hex()}"
        try:
            await spool(call.request, spooled, self._limits, self._offload)
            made = await self._imports.import_batch(account_sid, spooled, account_secrets=secrets)
        finally:
            self._importing.discard(account_sid)
            await self._offload(lambda: spooled.unlink(missing_ok=True))
        devices = [ImportedShape(row.line, row.device_sid, row.unique_name) for row in made]
        return json_answer(DeviceImportShape(call.caller.account_sid, len(devices), devices), 201)

    async def _enable(self, call: Call) -> Answer:
        token, _ = await self._gateway.enable(call.caller.account_sid)
        shape = gateway_token_shape(call.caller.account_sid, await self._gateway.state(call.caller.account_sid))
        return json_answer(NewGatewayTokenShape(**msgspec.structs.asdict(shape), gateway_token=token), 201)

    async def _state(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        return json_answer(gateway_token_shape(account_sid, await self._gateway.state(account_sid)))

    async def _disable(self, call: Call) -> Answer:
        await self._gateway.disable(call.caller.account_sid)
        return Answer(204)
