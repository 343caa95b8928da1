"""What operators do, as typed calls: Auth Tokens are replaced, events are read.

Beside ``resources``. Deliberately no domain rules: the server decides, this asks. Spec: our extensions in
``docs/divergences.md`` and ``docs/reference/events.md``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetvisor.client.resources import Resource, read, segment, walk

if TYPE_CHECKING:
    from fleetvisor.client.http import Http

_ACCOUNTS: Final = "/v1/Accounts"
_SECONDARY: Final = "/v1/AuthTokens/Secondary"


class AuthToken(Resource, kw_only=True):
    """An Auth Token just made (``secondary_auth_token``) or promoted (``auth_token``)."""

    account_sid: str
    auth_token: str | None = None
    secondary_auth_token: str | None = None


class Tenant(Resource, kw_only=True):
    """An account of the server."""

    account_sid: str
    friendly_name: str = ""
    status: str
    device_count: int = 0
    date_created: str


class Event(Resource, kw_only=True):
    """One thing that happened."""

    id: int
    type: str
    date_created: str
    subject_sid: str | None = None
    device_sid: str | None = None
    actor_sid: str | None = None
    address: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class Operators:
    """The calls of operators. Every call raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    def create_secondary_token(self) -> AuthToken:
        """Make the second Auth Token; the answer holds it."""
        return read(self._http.post(_SECONDARY, {}), AuthToken)

    def delete_secondary_token(self) -> None:
        """Remove the second Auth Token: it opens nothing any more."""
        self._http.delete(_SECONDARY)

    def promote_token(self) -> AuthToken:
        """Make the second Auth Token the first, which opens nothing any more; the answer holds it."""
        return read(self._http.post("/v1/AuthTokens/Promote", {}), AuthToken)

    def accounts(self) -> Iterator[Tenant]:
        """Walk the accounts of the server, newest first."""
        return walk(self._http, _ACCOUNTS, "accounts", Tenant)

    def set_account_status(self, sid: str, status: str) -> Tenant:
        """Suspend an account (``suspended``) or let it in again (``active``)."""
        return read(self._http.post(f"{_ACCOUNTS}/{segment(sid)}", {"Status": status}), Tenant)

    def end_account(self, sid: str) -> None:
        """End an account: everything that it has is removed."""
        self._http.delete(f"{_ACCOUNTS}/{segment(sid)}")

    def events(
        self,
        *,
        type: str | None = None,  # noqa: A002  the API's word
        device: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> Iterator[Event]:
        """Walk the events, newest first."""
        given = {"Type": type, "DeviceSid": device, "StartDate": since, "EndDate": until}
        wanted = {name: text for name, text in given.items() if text}
        return walk(self._http, "/v1/Events", "events", Event, wanted)
