"""Auth Tokens are rotated (extension): paths, statuses and fields as the original's account API has them."""

from typing import Final

from fleetvisor.api.account_shapes import PromotedAuthTokenShape, SecondaryAuthTokenShape
from fleetvisor.api.routes import Call, Route
from fleetvisor.features.accounts.auth_tokens import AuthTokens
from fleetvisor.features.accounts.model import Caller
from fleetvisor.ground.clock import iso
from fleetvisor.ground.errors import AccessDenied
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls

_SECONDARY: Final = "/v1/AuthTokens/Secondary"
_PROMOTE: Final = "/v1/AuthTokens/Promote"


class AuthTokenHandlers:
    """What the paths of Auth Tokens do."""

    def __init__(self, *, tokens: AuthTokens, urls: Urls) -> None:
        """Keep the service."""
        self._tokens = tokens
        self._urls = urls

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags, errors = ("Accounts",), (400, 401, 403, 404, 409, 413, 415, 429)
        return [
            Route(
                "POST", _SECONDARY, "CreateSecondaryAuthToken", "Make a second Auth Token beside the first.",
                self._create, SecondaryAuthTokenShape, status=201, errors=errors, extension=True, tags=tags, admin=True,
                judge=_may_change,
            ),
            Route(
                "DELETE", _SECONDARY, "DeleteSecondaryAuthToken", "Remove the second Auth Token.", self._delete,
                status=204, errors=(401, 403, 404, 429), extension=True, tags=tags, admin=True,
                judge=_may_change,
            ),
            Route(
                "POST", _PROMOTE, "UpdateAuthTokenPromotion", "Make the second Auth Token the first; the first ends.",
                self._promote, PromotedAuthTokenShape, errors=errors, extension=True, tags=tags, admin=True,
                judge=_may_change,
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> Answer:
        made = await self._tokens.create_secondary(call.caller.account_sid)
        dates = (iso(made.date_created), iso(made.date_updated))
        shape = SecondaryAuthTokenShape(made.account_sid, *dates, made.auth_token, self._urls.base + _SECONDARY)
        return json_answer(shape, 201)

    async def _delete(self, call: Call) -> Answer:
        await self._tokens.delete_secondary(call.caller.account_sid)
        return Answer(204)

    async def _promote(self, call: Call) -> Answer:
        now = await self._tokens.promote(call.caller.account_sid)
        dates = (iso(now.date_created), iso(now.date_updated))
        return json_answer(PromotedAuthTokenShape(now.account_sid, now.auth_token, *dates, self._urls.base + _PROMOTE))


def _may_change(caller: Caller) -> None:
    """Raise ``AccessDenied`` unless an Auth Token proves the account: a key could lock its people out."""
    if caller.key_sid is not None:
        raise AccessDenied("Only an Auth Token may change Auth Tokens; an API key may not.")
