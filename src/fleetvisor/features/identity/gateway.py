"""Gateway tokens: fleets whose devices register themselves on their first poll, and wait to be accepted.

Off until an operator makes the account's token. A device that waits gets nothing but its poll; one that ever had a
credential of its own refuses the gateway's. Answered from memory until a bell of the device or its account rings.
"""

from hashlib import sha256
from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Bells, Kept
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import store as accounts_store
from fleetvisor.features.devices import controllers
from fleetvisor.features.devices import store as devices_store
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import store as events
from fleetvisor.features.identity import store
from fleetvisor.features.identity.model import GatewayState
from fleetvisor.features.updates import store as updates_store
from fleetvisor.ground.clock import Clock, Entropy, Millis
from fleetvisor.ground.errors import AccessDenied, Invalid, NotFound, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import GATEWAY_DEVICES
from fleetvisor.ground.names import check_controller_id, check_unique_name
from fleetvisor.ground.sids import AccountSid, DeviceSid, is_sid, new_device_sid, normalize
from fleetvisor.pki.identity import new_token, token_hash

TOKEN_PREFIX: Final = "fvg_"
_ACCOUNT: Final = "AC"


class GatewayIdentity(msgspec.Struct, frozen=True):
    """Which device a gateway's token stands for."""

    device: DeviceIdentity


class Gateway:
    """The verbs on gateway tokens, and what they prove."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need, and listen to the bells."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus
        self._proven: Kept[bytes, GatewayIdentity] = Kept(bus, GATEWAY_DEVICES, _bells_of, wide_of=_account_of)

    async def enable(self, account_sid: AccountSid) -> tuple[str, Millis]:
        """Make the account's gateway token, in place of the one there was; return it, shown this once."""
        token, now = new_token(self._entropy, TOKEN_PREFIX), self._clock.now()

        async def body(tx: Tx) -> None:
            await store.set_gateway(tx, account_sid, token_hash(token), now)
            await events.append(
                tx, account_sid=account_sid, type="gateway_token.created", subject_sid=account_sid, now=now
            )

        await self._db.write(body)
        self._bus.ring((account_sid,))
        return token, now

    async def disable(self, account_sid: AccountSid) -> None:
        """Take the account's gateway token away. Raises ``NotFound`` when it has none."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await store.delete_gateway(tx, account_sid):
                raise NotFound("The account has no gateway token.")
            await events.append(
                tx, account_sid=account_sid, type="gateway_token.deleted", subject_sid=account_sid, now=now
            )

        await self._db.write(body)
        self._bus.ring((account_sid,))

    async def state(self, account_sid: AccountSid) -> GatewayState:
        """Return whether the account has a gateway token, and how many devices wait."""
        found = await store.find_gateway(self._db, account_sid)
        return GatewayState(found.date_created if found else None, await store.count_waiting(self._db, account_sid))

    async def authenticate(self, token: str, account_sid: AccountSid | None, controller: str) -> GatewayIdentity:
        """Return the device ``controller`` of the account whose gateway token this is; a new one is made, and waits.

        Raises ``Unauthenticated``, and ``AccessDenied`` when too many wait already.
        """
        by_sid = is_sid(controller, "UV")
        ref = normalize(controller) if by_sid else controller
        place = sha256(f"{token}\0{account_sid}\0{ref}".encode("utf-8", "surrogatepass")).digest()
        return await self._proven.get(place, lambda: self._prove(token, account_sid, ref, by_sid=by_sid))

    async def _prove(self, token: str, account_sid: AccountSid | None, ref: str, *, by_sid: bool) -> GatewayIdentity:
        gateway = await store.find_gateway_by_token(self._db, token_hash(token))
        if gateway is None or account_sid is None or gateway.account_sid != account_sid:
            raise Unauthenticated("The gateway token is unknown, or belongs to another tenant.")
        device = await store.find_gateway_device(self._db, account_sid, ref, by_sid=by_sid)
        if device is None and not by_sid:
            device = await self._register(account_sid, ref)
        if device is None or not device.by_gateway or device.access == "disabled":
            raise Unauthenticated("The Device is unknown or disabled, or has a credential of its own.")
        return GatewayIdentity(DeviceIdentity(device.device_sid, account_sid, device.access == "waiting"))

    async def _register(self, account_sid: AccountSid, controller_id: str) -> store.GatewayDevice | None:
        """Make a device that waits, unless it was made meanwhile; its id is its name too, where that may be."""
        try:
            check_controller_id(controller_id, self._limits.device_name_chars_max)
        except Invalid as error:
            raise Unauthenticated(f"No Device can have this controller id: {error.detail}") from error
        name = _name_of(controller_id, self._limits)
        device_sid, now = new_device_sid(self._entropy), self._clock.now()

        async def body(tx: Tx) -> store.GatewayDevice | None:
            present = await store.find_gateway_device(tx, account_sid, controller_id, by_sid=False)
            if present is not None:
                return present
            if await store.count_waiting(tx, account_sid) >= self._limits.waiting_devices_max:
                raise AccessDenied(
                    f"{self._limits.waiting_devices_max} Devices already wait to be accepted. Accept or remove some."
                )
            if not await accounts_store.count_devices_up(tx, account_sid, self._limits.devices_per_account_max):
                raise AccessDenied("The account has its maximum number of Devices.")
            named = name
            if not await devices_store.insert(tx, account_sid, device_sid, named, now):
                named = None  # people gave the name to another device
                await devices_store.insert(tx, account_sid, device_sid, named, now)
            await controllers.give(tx, account_sid, device_sid, controller_id)
            await devices_store.set_waiting(tx, account_sid, device_sid, by_gateway=True)
            await updates_store.insert_assignment(tx, account_sid, device_sid)
            await self._note_waiting(tx, account_sid, device_sid, named, controller_id, now)
            return await store.find_gateway_device(tx, account_sid, controller_id, by_sid=False)

        return await self._db.write(body)

    @staticmethod
    async def _note_waiting(
        tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, name: str | None, controller: str, now: Millis
    ) -> None:
        await events.append_of_device(
            tx, account_sid, device_sid, "device.waiting", {"unique_name": name, "controller_id": controller}, now
        )


def _bells_of(found: GatewayIdentity) -> Bells:
    return Bells(found.device.device_sid, found.device.account_sid)


def _account_of(sid: str) -> str | None:
    return sid if sid.startswith(_ACCOUNT) else None


def _name_of(controller_id: str, limits: Limits) -> str | None:
    """Return the unique name of a device that registers itself: its controller id, if that may be one."""
    try:
        return check_unique_name(controller_id, limits.device_name_chars_max)
    except Invalid:
        return None
