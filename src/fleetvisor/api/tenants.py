"""The accounts of the server (extension): listed, suspended, resumed and ended by the first account's Auth Token."""

from fleetvisor.api import paging
from fleetvisor.api.account_shapes import AccountShape, account_shape
from fleetvisor.api.forms import get_text
from fleetvisor.api.routes import Call, Param, Route
from fleetvisor.features.accounts.model import Caller
from fleetvisor.features.accounts.tenants import Tenants
from fleetvisor.ground.errors import AccessDenied, Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls


class TenantHandlers:
    """What the paths of accounts do."""

    def __init__(self, *, tenants: Tenants, limits: Limits, urls: Urls) -> None:
        """Keep the service."""
        self._tenants = tenants
        self._limits = limits
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags, one = ("Accounts",), "/v1/Accounts/{Sid}"
        status = Param(
            "Status", "suspended: refuse the account at once; active: let it in.", required=True, extension=True
        )
        return [
            Route(
                "GET", "/v1/Accounts", "ListAccount", "Retrieve a list of the server's accounts.", self._list,
                AccountShape, "accounts", errors=(400, 401, 403, 429), extension=True, tags=tags, admin=True,
                judge=demand_first,
            ),
            Route(
                "GET", one, "FetchAccount", "Fetch an account.", self._fetch, AccountShape,
                errors=(401, 403, 404, 429), extension=True, tags=tags, admin=True,
                judge=demand_first,
            ),
            Route(
                "POST", one, "UpdateAccount", "Suspend an account, or let it in again.", self._update, AccountShape,
                params=(status,), errors=(400, 401, 403, 404, 409, 413, 415, 429), extension=True, tags=tags,
                admin=True, judge=demand_first,
            ),
            Route(
                "DELETE", one, "DeleteAccount", "End an account: everything it has is removed.", self._end, status=204,
                errors=(401, 403, 404, 409, 429), extension=True, tags=tags, admin=True,
                judge=demand_first,
            ),
        ]  # fmt: skip

    async def _list(self, call: Call) -> Answer:
        name = paging.ListName("/v1/Accounts", call.caller.account_sid, "accounts", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._tenants.list(asked.request)
        shapes = [account_shape(tenant, self._urls) for tenant in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch(self, call: Call) -> Answer:
        return json_answer(account_shape(await self._tenants.get(call.args[0]), self._urls))

    async def _update(self, call: Call) -> Answer:
        match get_text(call.form, "Status"):
            case "suspended":
                tenant = await self._tenants.suspend(call.caller.account_sid, call.args[0])
            case "active":
                tenant = await self._tenants.resume(call.caller.account_sid, call.args[0])
            case _:
                raise Invalid("Status must be active or suspended.")
        return json_answer(account_shape(tenant, self._urls))

    async def _end(self, call: Call) -> Answer:
        await self._tenants.end(call.caller.account_sid, call.args[0])
        return Answer(204)


def demand_first(caller: Caller) -> None:
    """Raise ``AccessDenied`` unless it is the first account, proven by an Auth Token."""
    if not caller.is_first or caller.key_sid is not None:
        raise AccessDenied("Only the first account's Auth Token may make, see and change accounts.")
