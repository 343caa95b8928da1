"""Devices: registered, found, changed in one piece, removed.

Deliberately proves none: ``features/identity`` does; nor decides what an update does: ``features/updates`` does.
``update`` is all-or-nothing: one transaction of name, target, cancel, logging and restart. Bells ring after the commit.
"""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.db.database import Database, Tx, UniqueViolated
from fleetvisor.features.accounts import store as accounts_store
from fleetvisor.features.apps import rules as apps_rules
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.configs import store as configs_store
from fleetvisor.features.devices import controllers, counting, credentials, labels, rules, selectors, spelling, store
from fleetvisor.features.devices import selection as selections
from fleetvisor.features.devices.model import Device, DeviceChange, DeviceIdentity, NewDevice, Registration
from fleetvisor.features.events import store as events
from fleetvisor.features.logs import store as logs_store
from fleetvisor.features.updates import ignored, numbers, rollout_devices, targets
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.model import Wanted
from fleetvisor.ground.clock import Clock, Entropy, Millis, later
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import DEVICE_ROWS
from fleetvisor.ground.names import check_controller_id, check_label, check_unique_name
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, DeviceSid, is_sid, new_device_sid, normalize
from fleetvisor.pki.identity import new_token, token_hash


def _missing() -> NotFound:
    return NotFound("No Device matches the given identifier.")


class Devices:
    """The verbs on devices."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need, and forget what is kept of devices whose bell rings."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus
        self._rows: Kept[str, store.DeviceRow] = Kept(bus, DEVICE_ROWS, size_of=_weight, alone=True)
        self._spelling = spelling.Spelling(db, clock, limits)

    async def create(self, account_sid: AccountSid, wanted: Registration) -> NewDevice:
        """Register a device, under its own ``sid`` if the board has one already; its token is shown this once.

        Raises ``Invalid`` for a bad name or SID, ``Conflict`` when one is taken or the account is full.
        """
        name = wanted.unique_name or None
        if name is not None:
            check_unique_name(name, self._limits.device_name_chars_max)
        if isinstance(wanted.controller_id, str):
            check_controller_id(wanted.controller_id, self._limits.device_name_chars_max)
        device_sid = rules.check_own_sid(wanted.sid) if wanted.sid else new_device_sid(self._entropy)
        if wanted.hardware_class is not None:
            check_label("HardwareClass", wanted.hardware_class, self._limits.label_chars_max)
        changes = labels.parse(wanted.labels, self._limits)
        token = new_token(self._entropy, credentials.TOKEN_PREFIX)
        now = self._clock.now()

        async def body(tx: Tx) -> Device:
            if not await accounts_store.count_devices_up(tx, account_sid, self._limits.devices_per_account_max):
                raise Conflict(f"The account has {self._limits.devices_per_account_max} Devices, which is the maximum.")
            secrets = wanted.account_secrets
            if not await store.insert(
                tx, account_sid, device_sid, name, now, by_operator=True, account_secrets=secrets
            ):
                raise Conflict("A Device with this UniqueName or Sid already exists.")
            if wanted.controller_id is UNSET:
                await controllers.adopt(tx, account_sid, device_sid, name)
            elif wanted.controller_id is not None:
                await controllers.give(tx, account_sid, device_sid, wanted.controller_id)
            await credentials.insert_token(tx, device_sid, token_hash(token), now)
            await updates_store.insert_assignment(tx, account_sid, device_sid)
            await store.set_class(tx, account_sid, device_sid, wanted.hardware_class)
            await labels.change(tx, account_sid, device_sid, changes, self._limits)
            await self._note(tx, account_sid, device_sid, "device.created", {"unique_name": name}, now)
            return await self._read(tx, account_sid, device_sid, now)

        return NewDevice(await self._db.write(body), token)

    async def get(self, account_sid: AccountSid, ref: str) -> Device:
        """Return a device by SID or unique name. Raises ``NotFound``.

        By SID it is answered from memory until the device's bell rings or it is seen again, where one process makes
        every change: who watches a device again and again does not load the database.
        """
        now = self._clock.now()
        if not is_sid(ref, "UV"):
            return store.device_of(await self._find(self._db, account_sid, ref), now)
        device_sid = normalize(ref)
        row = self._rows.find(device_sid)
        if row is None or row.account_sid != account_sid:
            row = await self._rows.read(device_sid, lambda: self._find(self._db, account_sid, device_sid))
        return store.device_of(row, now)

    def forget(self, sids: Iterable[str]) -> None:
        """Forget what is kept in memory of devices whose presence was written."""
        self._rows.drop(frozenset(sids))

    async def list(self, account_sid: AccountSid, page: PageRequest) -> Page[Device]:
        """Return a page of the account's devices, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        now = self._clock.now()
        rows = await store.page(self._db, account_sid, now, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda device: (device.date_created, device.device_sid))

    async def select(self, account_sid: AccountSid, selector: str, page: PageRequest) -> Page[Device]:
        """Return a page of the devices that a selector selects, newest first; it may be short. Raises ``Invalid``."""
        now = self._clock.now()
        selection = await self.compile(account_sid, selector)
        return await selections.page(self._db, selection, now, page, self._limits)

    async def count(self, account_sid: AccountSid, selector: str, by: str | None) -> counting.Counts:
        """Count the devices that a selector selects, by a field or a label, if one is given. Raises ``Invalid``."""
        if by is not None and by not in counting.GROUPED and not labels.is_key(by):
            raise Invalid(f"By must be {', '.join(counting.GROUPED)} or the key of a label, such as site.")
        return await counting.counts(self._db, await self.compile(account_sid, selector), by)

    async def compile(self, account_sid: AccountSid, selector: str) -> selections.Selection:
        """Compile a selector, as of now. Raises ``Invalid``."""
        now = self._clock.now()
        terms = [await self._with_apps(account_sid, term) for term in selectors.parse(selector, self._limits)]
        return selections.compile_terms(account_sid, terms, now)

    async def warnings(self, account_sid: AccountSid, selector: str, by: str | None = None) -> tuple[str, ...]:
        """Return what to say of labels, to select or count by, that nothing of the account has. Raises ``Invalid``."""
        said = await self._spelling.warnings(account_sid, selectors.parse(selector, self._limits))
        if by is None or by in counting.GROUPED:
            return said
        return (*said, *await self._spelling.warnings_by(account_sid, by))

    async def pin(self, account_sid: AccountSid, selector: str) -> str:
        """Return a selector that will always mean what it means now: each app by its SID. Raises ``Invalid``.

        A label that nothing of the account has is refused, unless it is written as ``label.key``.
        An app may be removed while devices report it, and another one be given its name.
        """
        await self._spelling.check(account_sid, selectors.parse(selector, self._limits))
        await self.compile(account_sid, selector)
        for place, ref in reversed(selectors.apps_named(selector)):
            selector = selector[: place.start] + await self._app_sid(account_sid, ref) + selector[place.stop :]
        selectors.parse(selector, self._limits)
        return selector

    async def _with_apps(self, account_sid: AccountSid, term: selectors.Term) -> selectors.Term:
        """Put SIDs in the place of apps' names."""
        if term.key not in {"app", "target"} or not term.values:
            return term
        values = [await self._app_sid(account_sid, value) for value in term.values]
        return msgspec.structs.replace(term, values=tuple(values))

    async def _app_sid(self, account_sid: AccountSid, ref: str) -> str:
        """Return the SID that a selector means; one is taken as it is: devices may report an app that was removed."""
        if is_sid(ref, "KA"):
            return normalize(ref)
        app = await apps_store.find_in(self._db, account_sid, ref)
        if app is None:
            raise Invalid(f"Selector: no App of this account is called {ref[:80]!a}.")
        return app.app_sid

    async def identify(self, account_sid: AccountSid, ref: str) -> DeviceIdentity:
        """Return the identity of the device that ``ref`` names. Raises ``NotFound``."""
        return DeviceIdentity(await self.resolve(account_sid, ref), account_sid)

    async def resolve(self, account_sid: AccountSid, ref: str) -> DeviceSid:
        """Return the SID of the device that ``ref`` (a SID or unique name) names. Raises ``NotFound``."""
        return await self._resolve(self._db, account_sid, ref)

    async def answers_to(self, identity: DeviceIdentity, controller: str) -> bool:
        """Return whether a board that is proven to be this device may ask by ``controller``.

        By its SID, by its controller id, or by its name where that is no other device's controller id.
        """
        if is_sid(controller, "UV"):
            return normalize(controller) == identity.device_sid
        device_sid = await controllers.find(self._db, identity.account_sid, controller)
        if device_sid is None:
            device_sid = await store.resolve(self._db, identity.account_sid, controller, by_sid=False)
        return device_sid == identity.device_sid

    async def delete(self, account_sid: AccountSid, ref: str) -> None:
        """Remove a device with its tokens, configs, secrets and updates; its keys are refused. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> DeviceSid:
            device_sid = await self._resolve(tx, account_sid, ref)
            await configs_store.delete_of_device(tx, account_sid, device_sid)
            await credentials.refuse_keys(tx, account_sid, device_sid)
            await rollout_devices.forget(tx, account_sid, device_sid)
            await numbers.retire(tx, [device_sid])
            await store.delete(tx, account_sid, device_sid)
            await accounts_store.count_devices_down(tx, account_sid)
            await self._note(tx, account_sid, device_sid, "device.deleted", {}, now)
            return device_sid

        self._bus.ring((await self._db.write(body),))

    async def update(
        self, account_sid: AccountSid, ref: str, change: DeviceChange, *, by_admin: bool = False
    ) -> Device:
        """Apply one change, all or nothing, and return the device as it is then.

        ``by_admin``: an admin makes it, so that a device that waited and is let in may fetch the account's Secrets.

        Raises ``NotFound`` for the device, ``Invalid`` for an unknown app or a contradiction, ``Conflict`` for a
        name that another device has and for an app of another hardware class.
        """
        rules.check_change(change, self._limits)
        changes = labels.parse(change.labels, self._limits)
        if isinstance(change.unique_name, str):
            await self._check_name(account_sid, ref, change.unique_name)
        if isinstance(change.controller_id, str):
            check_controller_id(change.controller_id, self._limits.device_name_chars_max)
        if rules.is_empty(change):
            return await self.get(account_sid, ref)
        now = self._clock.now()

        async def body(tx: Tx) -> Device:
            device_sid = await self._resolve(tx, account_sid, ref)
            await labels.change(tx, account_sid, device_sid, changes, self._limits)
            await self._apply(tx, account_sid, device_sid, change, now, by_admin=by_admin)
            return await self._read(tx, account_sid, device_sid, now)

        try:
            device = await self._db.write(body)
        except UniqueViolated as error:
            raise Conflict("Another Device has this UniqueName.") from error
        self._bus.ring((device.device_sid,))
        return device

    async def _check_name(self, account_sid: AccountSid, ref: str, name: str) -> None:
        """Raise ``Invalid`` for a name that may not be made; the device's own name of today may be sent again."""
        try:
            check_unique_name(name, self._limits.device_name_chars_max)
        except Invalid:
            if (await self._find(self._db, account_sid, ref)).unique_name != name:
                raise

    async def _apply(
        self,
        tx: Tx,
        account_sid: AccountSid,
        device_sid: DeviceSid,
        change: DeviceChange,
        now: Millis,
        *,
        by_admin: bool,
    ) -> None:
        data: dict[str, str | int | None] = {}
        if change.unique_name is not UNSET:
            await store.rename(tx, account_sid, device_sid, change.unique_name)
            data["unique_name"] = change.unique_name
        if change.controller_id is not UNSET:
            await controllers.give(tx, account_sid, device_sid, change.controller_id)
            data["controller_id"] = change.controller_id
        elif isinstance(change.unique_name, str):
            await controllers.adopt(tx, account_sid, device_sid, change.unique_name)
        if change.target_app is not UNSET:
            app = await _app(tx, account_sid, change.target_app)
            again = change.offer_again or change.forget_report
            wanted = Wanted(app, change.mode or "forced", confirm=change.confirm or False, again=again)
            timeout_s = self._limits.cancel_timeout_s
            await targets.assign(tx, account_sid, device_sid, wanted, now, cancel_timeout_s=timeout_s)
            data["target_sid"] = app.app_sid if app else None
        await self._correct(tx, account_sid, device_sid, change, data, now)
        if change.hardware_class is not UNSET:
            await store.set_class(tx, account_sid, device_sid, change.hardware_class)
            data["hardware_class"] = change.hardware_class
        if isinstance(change.target_app, str) or isinstance(change.hardware_class, str):
            found = await store.find_compatibility(tx, account_sid, device_sid)
            if found is not None:
                apps_rules.check_classes(found.app_class, found.device_class)
            if found is not None and isinstance(change.target_app, str):
                apps_rules.check_counter(found.app_counter, found.device_counter)
        if change.cancel_update:
            timeout_s = self._limits.cancel_timeout_s
            await targets.cancel(tx, account_sid, device_sid, now, cancel_timeout_s=timeout_s)
            data["cancel_update"] = 1
        if change.logging_enabled is not None:
            expires = later(now, self._limits.logging_s) if change.logging_enabled else None
            await logs_store.switch(tx, device_sid, expires)
            data["logging_enabled"] = int(change.logging_enabled)
        if change.restart:
            data["restart"] = 1
        if change.poll_interval_s is not UNSET:
            await store.set_interval(tx, account_sid, device_sid, change.poll_interval_s)
            data["poll_interval_s"] = change.poll_interval_s
        if change.access is not None:
            await store.set_access(tx, account_sid, device_sid, change.access, by_admin=by_admin)
            data["access"] = change.access
        if change.account_secrets is not None:
            await store.set_account_secrets(tx, account_sid, device_sid, change.account_secrets)
            data["account_secrets"] = int(change.account_secrets)
        if change.labels:
            data["labels"] = ",".join(change.labels)
        await store.touch(tx, account_sid, device_sid, now, restarts=int(change.restart))
        await self._note(tx, account_sid, device_sid, "device.updated", data, now)

    async def _correct(
        self,
        tx: Tx,
        account_sid: AccountSid,
        device_sid: DeviceSid,
        change: DeviceChange,
        data: dict[str, str | int | None],
        now: Millis,
    ) -> None:
        """Correct what the server believes of a device."""
        if change.forget_report:
            await targets.forget_report(tx, account_sid, device_sid, now)
            data["forget_report"] = 1
        if change.offer_again:
            timeout_s = self._limits.cancel_timeout_s
            if change.target_app is UNSET:
                await targets.offer_again(tx, account_sid, device_sid, now, cancel_timeout_s=timeout_s)
            data["offer_again"] = 1
        if change.begin_anew:
            await ignored.begin_anew(tx, account_sid, device_sid)
            data["begin_anew"] = 1
        if change.request_attributes:
            await updates_store.want_attributes(tx, account_sid, device_sid)
            data["request_attributes"] = 1

    @staticmethod
    async def _note(
        tx: Tx,
        account_sid: AccountSid,
        device_sid: DeviceSid,
        event: str,
        data: dict[str, str | int | None],
        now: Millis,
    ) -> None:
        await events.append_of_device(tx, account_sid, device_sid, event, data, now)

    async def _read(self, source: Tx | Database, account_sid: AccountSid, ref: str, now: Millis) -> Device:
        return store.device_of(await self._find(source, account_sid, ref), now)

    @staticmethod
    async def _find(source: Tx | Database, account_sid: AccountSid, ref: str) -> store.DeviceRow:
        by_sid = is_sid(ref, "UV")
        row = await store.find(source, account_sid, normalize(ref) if by_sid else ref, by_sid=by_sid)
        if row is None:
            raise _missing()
        return row

    @staticmethod
    async def _resolve(source: Tx | Database, account_sid: AccountSid, ref: str) -> DeviceSid:
        by_sid = is_sid(ref, "UV")
        device_sid = await store.resolve(source, account_sid, normalize(ref) if by_sid else ref, by_sid=by_sid)
        if device_sid is None:
            raise _missing()
        return device_sid


async def _app(tx: Tx, account_sid: AccountSid, ref: str | None) -> App | None:
    if ref is None:
        return None
    app = await apps_store.find_in(tx, account_sid, ref)
    if app is None:
        raise Invalid("TargetApp: no App of this account has this SID or unique name.")
    return app


def _weight(row: store.DeviceRow) -> int:
    """Return about how many bytes a row takes: its texts of any length, four bytes a character, and the rest."""
    return 2048 + 4 * (len(row.unique_name or "") + len(row.labels) + len(row.hardware_class or ""))
