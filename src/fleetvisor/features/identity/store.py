"""The rows of enrolment tokens and gateway tokens. Deliberately holds hashes only."""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.identity.model import EnrollmentToken
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

_GRANT_COLUMNS: Final = """token_sid, account_sid, friendly_name, uses, uses_max, date_expires, hardware_class, labels,
    revoked, date_created, account_secrets, waits"""
_INSERT_GRANT: Final = """
INSERT INTO enrollment_tokens (token_sid, account_sid, friendly_name, secret_hash, uses_max, date_expires,
    hardware_class, labels, date_created, account_secrets, waits)
VALUES (:token_sid, :account_sid, :friendly_name, :secret_hash, :uses_max, :date_expires, :hardware_class, :labels,
    :date_created, :account_secrets, :waits)"""
#: As ``enrollment.is_open`` says it.
OPEN_GRANT: Final = "uses < uses_max AND revoked = 0 AND (date_expires IS NULL OR date_expires > :now)"
_USE_GRANT: Final = f"""
UPDATE enrollment_tokens SET uses = uses + 1
WHERE account_sid = :account_sid AND token_sid = :token_sid AND {OPEN_GRANT}"""
_WAITING: Final = "SELECT count(*) AS count FROM devices WHERE account_sid = :account_sid AND access = 'waiting'"
_SET_GATEWAY: Final = """
INSERT INTO gateway_tokens (account_sid, token_hash, date_created) VALUES (:account_sid, :token_hash, :now)
ON CONFLICT (account_sid) DO UPDATE SET token_hash = excluded.token_hash, date_created = excluded.date_created"""


class Secret(msgspec.Struct, frozen=True):
    """What an enrolment token is proven against."""

    account_sid: AccountSid
    secret_hash: bytes


class GatewayRow(msgspec.Struct, frozen=True):
    """Whose a gateway token is."""

    account_sid: AccountSid
    date_created: Millis


class _Count(msgspec.Struct, frozen=True):
    count: int


class GatewayDevice(msgspec.Struct, frozen=True):
    """A device as a gateway's token finds it."""

    device_sid: DeviceSid
    access: str
    by_gateway: bool


async def insert_grant(tx: Tx, token: EnrollmentToken, secret_hash: bytes) -> None:
    """Make an enrolment token."""
    flags = {"revoked": 0, "account_secrets": int(token.account_secrets), "waits": int(token.waits)}
    await tx.run(_INSERT_GRANT, msgspec.structs.asdict(token) | {"secret_hash": secret_hash} | flags)


async def count_grants(tx: Tx, account_sid: AccountSid) -> int:
    """Count an account's enrolment tokens."""
    sql = "SELECT count(*) AS count FROM enrollment_tokens WHERE account_sid = :account_sid"
    row = await tx.one(_Count, sql, {"account_sid": account_sid})
    return row.count if row else 0


async def find_grant(source: Tx | Database, account_sid: AccountSid, token_sid: str) -> EnrollmentToken | None:
    """Read an enrolment token."""
    sql = f"SELECT {_GRANT_COLUMNS} FROM enrollment_tokens WHERE account_sid = :account_sid AND token_sid = :token_sid"
    return await source.one(EnrollmentToken, sql, {"account_sid": account_sid, "token_sid": token_sid})


async def find_secret(source: Tx | Database, token_sid: str) -> Secret | None:
    """Read what an enrolment token is proven against."""
    sql = """SELECT t.account_sid, t.secret_hash FROM enrollment_tokens t
        JOIN accounts a ON a.account_sid = t.account_sid AND a.status = 'active' WHERE t.token_sid = :token_sid"""
    return await source.one(Secret, sql, {"token_sid": token_sid})


async def page_grants(
    db: Database, account_sid: AccountSid, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[EnrollmentToken]:
    """Read enrolment tokens beside ``key`` (date_created, SID): older ones, newest first, or the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"AND (date_created, token_sid) {sign} (:created, :sid)" if key else ""
    sql = f"""SELECT {_GRANT_COLUMNS} FROM enrollment_tokens WHERE account_sid = :account_sid {beside}
        ORDER BY date_created {order}, token_sid {order} LIMIT :limit"""
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit}
    if key:
        params |= {"created": key[0], "sid": key[1]}
    return await db.all(EnrollmentToken, sql, params)


async def use_grant(tx: Tx, account_sid: AccountSid, token_sid: str, now: Millis) -> bool:
    """Count one use; false when there is none left, or the token ended or was revoked."""
    return await tx.run(_USE_GRANT, {"account_sid": account_sid, "token_sid": token_sid, "now": now}) == 1


async def revoke_grant(tx: Tx, account_sid: AccountSid, token_sid: str) -> bool:
    """Revoke an enrolment token; false when there is no such one."""
    sql = "UPDATE enrollment_tokens SET revoked = 1 WHERE account_sid = :account_sid AND token_sid = :token_sid"
    return await tx.run(sql, {"account_sid": account_sid, "token_sid": token_sid}) == 1


async def delete_grant(tx: Tx, account_sid: AccountSid, token_sid: str) -> bool:
    """Remove an enrolment token; false when there is no such one."""
    sql = "DELETE FROM enrollment_tokens WHERE account_sid = :account_sid AND token_sid = :token_sid"
    return await tx.run(sql, {"account_sid": account_sid, "token_sid": token_sid}) == 1


async def count_waiting(source: Tx | Database, account_sid: AccountSid) -> int:
    """Count the account's devices that wait to be accepted."""
    row = await source.one(_Count, _WAITING, {"account_sid": account_sid})
    return row.count if row else 0


async def set_gateway(tx: Tx, account_sid: AccountSid, token_hash: bytes, now: Millis) -> None:
    """Set an account's gateway token (by its SHA-256)."""
    await tx.run(_SET_GATEWAY, {"account_sid": account_sid, "token_hash": token_hash, "now": now})


async def delete_gateway(tx: Tx, account_sid: AccountSid) -> bool:
    """Take an account's gateway token away; false when it has none."""
    sql = "DELETE FROM gateway_tokens WHERE account_sid = :account_sid"
    return await tx.run(sql, {"account_sid": account_sid}) == 1


async def find_gateway(source: Tx | Database, account_sid: AccountSid) -> GatewayRow | None:
    """Read whether an account has a gateway token."""
    sql = "SELECT account_sid, date_created FROM gateway_tokens WHERE account_sid = :account_sid"
    return await source.one(GatewayRow, sql, {"account_sid": account_sid})


async def find_gateway_by_token(source: Tx | Database, token_hash: bytes) -> GatewayRow | None:
    """Read whose a gateway token (by its SHA-256) is."""
    sql = """SELECT g.account_sid, g.date_created FROM gateway_tokens g
        JOIN accounts a ON a.account_sid = g.account_sid AND a.status = 'active' WHERE g.token_hash = :token_hash"""
    return await source.one(GatewayRow, sql, {"token_hash": token_hash})


async def find_gateway_device(
    source: Tx | Database, account_sid: AccountSid, ref: str, *, by_sid: bool
) -> GatewayDevice | None:
    """Read a device as a gateway's token finds it, by SID or controller id."""
    column = "device_sid" if by_sid else "controller_id"
    sql = f"""SELECT device_sid, access, by_gateway FROM devices
        WHERE account_sid = :account_sid AND {column} = :ref"""
    return await source.one(GatewayDevice, sql, {"account_sid": account_sid, "ref": ref})
