"""Accounts and API keys (extensions): ``/v1/Accounts`` and ``/v1/Keys``."""

import msgspec

from fleetvisor.api import paging
from fleetvisor.api.account_shapes import KeyShape, NewAccountShape, NewKeyShape, key_shape, new_account_shape
from fleetvisor.api.forms import find_flag, find_number, find_text, get_text
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.api.tenants import demand_first
from fleetvisor.features.accounts.model import WantedKey
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls


class AccountHandlers:
    """What the account and key paths do."""

    def __init__(self, *, accounts: Accounts, limits: Limits, urls: Urls) -> None:
        """Keep the service."""
        self._accounts = accounts
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        name = Param(
            "FriendlyName", "What the key is for; up to 64 characters.", extension=True, chars_max=64, blank=True
        )
        role = Param("Role", "viewer, operator or admin: what the key allows.", required=True, extension=True)
        ttl = Param(
            "Ttl", "Seconds until it ends, 0 is never; by default with the key that makes it, or never.", "integer",
            extension=True,
        )  # fmt: skip
        descendants = Param(
            "Descendants", "true: remove the keys that were made with it, too.", "boolean", extension=True
        )
        whose = Param(
            "FriendlyName", "Whose account it is; up to 64 characters.", extension=True, chars_max=64, blank=True
        )
        tags = ("Accounts",)
        writing = (400, 401, 409, 413, 415, 429)
        return [
            Route(
                "POST", "/v1/Accounts", "CreateAccount", "Make another account (first account's Auth Token only).",
                self._create, NewAccountShape, status=201, params=(whose,), errors=(400, 401, 403, 409, 413, 415, 429),
                extension=True, tags=tags, admin=True, judge=demand_first,
            ),
            Route(
                "POST", "/v1/Keys", "CreateKey", "Make an API key.", self._create_key, NewKeyShape, status=201,
                params=(name, role, ttl), errors=(*writing, 403), extension=True, tags=tags, admin=True,
            ),
            Route(
                "GET", "/v1/Keys", "ListKey", "Retrieve a list of the account's API keys.", self._list_keys,
                KeyShape, "keys", extension=True, tags=tags,
            ),
            Route(
                "GET", "/v1/Keys/{Sid}", "FetchKey", "Fetch an API key, without its secret.", self._fetch_key,
                KeyShape, extension=True, tags=tags,
            ),
            Route(
                "DELETE", "/v1/Keys/{Sid}", "DeleteKey", "Remove an API key.", self._delete_key, status=204,
                params=(descendants,), errors=(400, 401, 403, 404, 409, 429), extension=True, tags=tags, admin=True,
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> Answer:
        name = find_text(call.form, "FriendlyName") or ""
        made = await self._accounts.create(name, call.caller.account_sid)
        return json_answer(new_account_shape(made), 201)

    async def _create_key(self, call: Call) -> Answer:
        wanted = WantedKey(
            find_text(call.form, "FriendlyName") or "",
            get_text(call.form, "Role"),
            find_number(call.form, "Ttl", 0) if "Ttl" in call.form else None,
        )
        made = await self._accounts.create_key(call.caller, wanted)
        shape = key_shape(made.key, self._urls)
        return json_answer(NewKeyShape(**msgspec.structs.asdict(shape), secret=made.secret), 201)

    async def _list_keys(self, call: Call) -> Answer:
        name = paging.ListName("/v1/Keys", call.caller.account_sid, "keys", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._accounts.list_keys(call.caller.account_sid, asked.request)
        shapes = [key_shape(key, self._urls) for key in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch_key(self, call: Call) -> Answer:
        return json_answer(key_shape(await self._accounts.get_key(call.caller.account_sid, call.args[0]), self._urls))

    async def _delete_key(self, call: Call) -> Answer:
        descendants = find_flag(call.request.query(), "Descendants") or False
        await self._accounts.delete_key(call.caller.account_sid, call.args[0], descendants=descendants)
        return Answer(204)
