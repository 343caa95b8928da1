"""The JSON of accounts, API keys, Auth Tokens and events (extensions).

NOTE: these structs are the published contract; the OpenAPI document's schemas are made from them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from fleetvisor.api.shapes import AccountSidText, Date, DeviceSidText, KeySidText, Url
from fleetvisor.features.accounts.model import Key, NewAccount, Tenant
from fleetvisor.features.events.store import Listed
from fleetvisor.ground.clock import iso, iso_or_none
from fleetvisor.web.urls import Urls


class KeyShape(msgspec.Struct):
    """An API key (extension)."""

    sid: KeySidText
    account_sid: AccountSidText
    friendly_name: str
    role: Annotated[str, Meta(pattern="^(admin|operator|viewer)$")]
    maker_sid: KeySidText | None
    date_expires: Date | None
    date_last_used: Date | None
    date_created: Date
    url: Url


class NewKeyShape(KeyShape):
    """An API key just made, with its secret, shown this once (extension)."""

    secret: str


class SecondaryAuthTokenShape(msgspec.Struct):
    """The second Auth Token just made, shown this once (extension)."""

    account_sid: AccountSidText
    date_created: Date
    date_updated: Date
    secondary_auth_token: str
    url: Url


class PromotedAuthTokenShape(msgspec.Struct):
    """The Auth Token just promoted (extension)."""

    account_sid: AccountSidText
    auth_token: str
    date_created: Date
    date_updated: Date
    url: Url


class EventShape(msgspec.Struct):
    """One thing that happened: to what, by whom, from where, and on which request (extension)."""

    id: int
    account_sid: AccountSidText
    type: str
    subject_sid: str | None
    device_sid: DeviceSidText | None
    actor_sid: str | None
    address: str | None
    request_sid: str | None
    data: dict[str, str | int | None]
    date_created: Date


class AccountShape(msgspec.Struct):
    """An account of the server, without anything that proves it (extension)."""

    account_sid: AccountSidText
    friendly_name: str
    status: Annotated[str, Meta(pattern="^(active|suspended|ending)$")]
    device_count: int
    date_created: Date
    url: Url


class NewAccountShape(msgspec.Struct):
    """An account just made, with its Auth Token, shown this once (extension)."""

    account_sid: AccountSidText
    auth_token: str
    friendly_name: str
    date_created: Date


def key_shape(key: Key, urls: Urls) -> KeyShape:
    """Render an API key."""
    return KeyShape(
        sid=key.key_sid,
        account_sid=key.account_sid,
        friendly_name=key.friendly_name,
        role=key.role,
        maker_sid=key.maker_sid,
        date_expires=iso_or_none(key.date_expires),
        date_last_used=iso_or_none(key.date_last_used),
        date_created=iso(key.date_created),
        url=urls.key(key.key_sid),
    )


def event_shape(event: Listed) -> EventShape:
    """Render an event."""
    return EventShape(
        id=event.event_id,
        account_sid=event.account_sid,
        type=event.type,
        subject_sid=event.subject_sid or None,
        device_sid=event.device_sid,
        actor_sid=event.actor_sid,
        address=event.address,
        request_sid=event.request_sid,
        data=msgspec.json.decode(event.data, type=dict[str, str | int | None]),
        date_created=iso(event.date_created),
    )


def account_shape(tenant: Tenant, urls: Urls) -> AccountShape:
    """Render an account as the first account's operator sees it."""
    return AccountShape(
        account_sid=tenant.account_sid,
        friendly_name=tenant.friendly_name,
        status=tenant.status,
        device_count=tenant.device_count,
        date_created=iso(tenant.date_created),
        url=f"{urls.base}/v1/Accounts/{tenant.account_sid}",
    )


def new_account_shape(account: NewAccount) -> NewAccountShape:
    """Render an account just made."""
    return NewAccountShape(account.account_sid, account.auth_token, account.friendly_name, iso(account.date_created))
