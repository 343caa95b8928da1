"""How a device's request for values is answered, and where a secret is bound to."""

from collections.abc import Mapping, Sequence

from fleetvisor.features.configs.model import Owner, Store
from fleetvisor.protocol.native import FetchItem, FetchResult


def context(account_sid: str, owner_sid: str, key: str) -> bytes:
    """Return what a sealed secret is bound to: moved to another account, owner or key, it does not open."""
    return f"secret\0{account_sid}\0{owner_sid}\0{key}".encode()


def place(item: FetchItem, owner: Owner) -> tuple[str, str, str]:
    """Return the owner SID, store and key that an item of a device's request names."""
    sid = owner.account_sid if item.scope == "account" else owner.sid
    return (sid, Store(item.store).value, item.key)


def answer(
    items: Sequence[FetchItem], owner: Owner, values: Mapping[tuple[str, str, str], str | None]
) -> tuple[FetchResult, ...]:
    """Answer each item in the order of the request; a value that is there but ``None`` could not be opened."""
    results: list[FetchResult] = []
    for item in items:
        where = place(item, owner)
        if where not in values:
            results.append(FetchResult(item.scope, item.store, item.key, "key_not_found"))
        elif (value := values[where]) is None:
            results.append(FetchResult(item.scope, item.store, item.key, "server_error"))
        else:
            results.append(FetchResult(item.scope, item.store, item.key, "ok", value))
    return tuple(results)
