"""The resources of the REST API with their types, and the calls that read and change them.

A value holds the fields that programs of ours use; its ``document`` is the JSON as the server sent it, so that
what a newer server adds is not lost. Deliberately no domain rules: the server decides, this asks.
Spec: the Microvisor API reference, sections 2 to 4, and our extensions in ``docs/divergences.md``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from fleetvisor.client.answers import ApiProblem, decode

if TYPE_CHECKING:
    from fleetvisor.client.http import Form, Http, Progress

PAGE_SIZE: Final = 200


class Resource(msgspec.Struct, kw_only=True, dict=True):
    """One resource, as the server sent it."""

    @property
    def document(self) -> bytes:
        """Return the JSON as the server sent it."""
        return vars(self)["document"]

    def fields(self) -> dict[str, Any]:
        """Return all fields of the JSON, those without a type here too."""
        return msgspec.json.decode(self.document, type=dict[str, Any])


class DeviceApp(msgspec.Struct, kw_only=True):
    """What a device should run and what it says it runs."""

    target_sid: str | None = None
    target_hash: str | None = None
    date_targeted: str | None = None
    update_status: str = "up-to-date"
    update_error_code: int = 0
    reported_sid: str | None = None
    date_reported: str | None = None


class DeviceLogging(msgspec.Struct, kw_only=True):
    """Whether a device may send logs, and until when."""

    enabled: bool = False
    date_expires: str | None = None


class DeviceUpdate(msgspec.Struct, kw_only=True):
    """The newest update of a device."""

    number: int
    app_sid: str
    state: str
    bytes_done: int = 0
    bytes_total: int = 0
    error_code: int = 0
    cancel_requested: bool = False


class Device(Resource, kw_only=True):
    """One board. ``device_token`` is there only in the answer that registered it."""

    sid: str
    unique_name: str | None = None
    controller_id: str | None = None
    access: str = "active"
    app: DeviceApp
    logging: DeviceLogging
    date_created: str | None = None
    date_last_seen: str | None = None
    update: DeviceUpdate | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    device_token: str | None = None

    @property
    def name(self) -> str:
        """Return what people call it: its unique name, else its SID."""
        return self.unique_name or self.sid


class DeviceGroup(msgspec.Struct, kw_only=True):
    """How many devices have a value; ``None``: none."""

    value: str | None = None
    count: int


class DeviceCounts(Resource, kw_only=True):
    """How many devices are selected, and how many of each value."""

    total: int
    groups: list[DeviceGroup]
    others: int = 0
    warnings: list[str] = msgspec.field(default_factory=list[str])


class App(Resource, kw_only=True):
    """One uploaded bundle, or other firmware."""

    sid: str
    unique_name: str | None = None
    hash: str
    kind: str = "bundle"
    damaged: bool = False
    version: str | None = None
    date_created: str | None = None

    @property
    def name(self) -> str:
        """Return what people call it: its unique name, else its SID."""
        return self.unique_name or self.sid


class Entry(Resource, kw_only=True):
    """One config (``value``, ``date_updated``) or secret (``date_rotated``)."""

    key: str
    value: str | None = None
    date_updated: str | None = None
    date_rotated: str | None = None


class Key(Resource, kw_only=True):
    """One API key. ``secret`` is there only in the answer that made it."""

    sid: str
    friendly_name: str | None = None
    role: str | None = None
    date_created: str | None = None
    date_expires: str | None = None
    date_last_used: str | None = None
    maker_sid: str | None = None
    secret: str | None = None


class Account(Resource, kw_only=True):
    """An account just made, with its Auth Token."""

    account_sid: str
    auth_token: str


R = TypeVar("R", bound=Resource)


class Client:
    """The REST API as typed calls. Every call raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    # devices

    def create_device(
        self,
        name: str | None = None,
        sid: str | None = None,
        hardware_class: str | None = None,
        labels: Sequence[str] = (),
        *,
        account_secrets: bool | None = None,
        controller_id: str | None = None,
    ) -> Device:
        """Register a device; the answer holds its token. A label is ``key=value``."""
        form = make_form(
            UniqueName=name,
            Sid=sid,
            HardwareClass=hardware_class,
            Labels=labels,
            AccountSecrets=_flag(account_secrets),
            ControllerId=controller_id,
        )
        return read(self._http.post("/v1/Devices", form), Device)

    def devices(self, selector: str | None = None, warn: Callable[[str], None] | None = None) -> Iterator[Device]:
        """Walk the devices, newest first: all of them, or those that ``selector`` selects.

        ``warn`` is told of labels in it that nothing has.
        """
        wanted = {"Selector": selector} if selector else None
        return walk(self._http, "/v1/Devices", "devices", Device, wanted, warn)

    def count_devices(self, selector: str | None = None, by: str | None = None) -> DeviceCounts:
        """Count the devices that ``selector`` selects, for each value of ``by`` if it is given."""
        wanted = {name: text for name, text in (("Selector", selector), ("By", by)) if text}
        return read(self._http.get("/v1/DeviceCounts", wanted), DeviceCounts)

    def device(self, ref: str) -> Device:
        """Fetch a device by SID or unique name."""
        return read(self._http.get(device_path(ref)), Device)

    def update_device(
        self,
        ref: str,
        *,
        name: str | None = None,
        target: str | None = None,
        logging: bool | None = None,
        restart: bool = False,
        cancel_update: bool = False,
        mode: str | None = None,
        confirm: bool | None = None,
        poll_interval_s: str | None = None,
        access: str | None = None,
        hardware_class: str | None = None,
        labels: Sequence[str] = (),
        account_secrets: bool | None = None,
        controller_id: str | None = None,
        offer_again: bool = False,
        forget_report: bool = False,
        request_attributes: bool = False,
        begin_anew: bool = False,
    ) -> Device:
        """Change a device, all or nothing. ``None`` leaves a thing; empty text clears it, where it can be none.

        A label ``key=value`` is set, ``key-`` is removed.
        """
        form = make_form(
            UniqueName=name,
            TargetApp=target,
            LoggingEnabled=_flag(logging),
            RestartApp="true" if restart else None,
            CancelUpdate="true" if cancel_update else None,
            UpdateMode=mode,
            Confirm=_flag(confirm),
            AccountSecrets=_flag(account_secrets),
            PollInterval=poll_interval_s,
            Access=access,
            HardwareClass=hardware_class,
            Labels=labels,
            ControllerId=controller_id,
            OfferAgain="true" if offer_again else None,
            ForgetReport="true" if forget_report else None,
            RequestAttributes="true" if request_attributes else None,
            BeginAnew="true" if begin_anew else None,
        )
        return read(self._http.post(device_path(ref), form), Device)

    def remove_device(self, ref: str) -> None:
        """Remove a device and all it owns."""
        self._http.delete(device_path(ref))

    # apps

    def create_app(
        self,
        file: Path,
        name: str | None = None,
        progress: "Progress | None" = None,
        *,
        kind: str | None = None,
        version: str | None = None,
        hardware_class: str | None = None,
    ) -> App:
        """Upload a bundle or other firmware. Raises ``OSError`` when it cannot be read."""
        form = make_form(UniqueName=name, Kind=kind, Version=version, HardwareClass=hardware_class)
        return read(self._http.upload("/v1/Apps", file, form, progress), App)

    def apps(self) -> Iterator[App]:
        """Walk all apps, newest first."""
        return walk(self._http, "/v1/Apps", "apps", App)

    def app(self, ref: str) -> App:
        """Fetch an app by SID or unique name."""
        return read(self._http.get(_app(ref)), App)

    def remove_app(self, ref: str) -> None:
        """Remove an app that nothing targets."""
        self._http.delete(_app(ref))

    # configs and secrets: ``store`` is "Configs" or "Secrets"

    def entries(self, store: str, device: str | None = None) -> Iterator[Entry]:
        """Walk the configs or secrets of the account, or of ``device``, by key."""
        return walk(self._http, _store(store, device), store.lower(), Entry)

    def entry(self, store: str, key: str, device: str | None = None) -> Entry:
        """Fetch one config or secret; a secret's value is in no answer."""
        return read(self._http.get(f"{_store(store, device)}/{segment(key)}"), Entry)

    def set_entry(self, store: str, key: str, value: str, device: str | None = None) -> Entry:
        """Set a key's value, whether it exists already or not."""
        base = _store(store, device)
        for last in (False, True):
            try:
                return read(self._http.post(f"{base}/{segment(key)}", {"Value": value}), Entry)
            except ApiProblem as problem:
                if problem.status != 404:
                    raise
            try:
                return read(self._http.post(base, {"Key": key, "Value": value}), Entry)
            except ApiProblem as problem:
                # 409: somebody made it meanwhile, so that the update works now; or the owner has too many.
                if problem.status != 409 or last:
                    raise
        raise AssertionError("the last round returns or raises")

    def remove_entry(self, store: str, key: str, device: str | None = None) -> None:
        """Remove one config or secret."""
        self._http.delete(f"{_store(store, device)}/{segment(key)}")

    # keys and accounts

    def create_key(self, name: str | None = None, *, role: str, ttl_s: int | None = None) -> Key:
        """Make an API key; the answer holds its secret."""
        form = make_form(FriendlyName=name, Role=role, Ttl=None if ttl_s is None else str(ttl_s))
        return read(self._http.post("/v1/Keys", form), Key)

    def keys(self) -> Iterator[Key]:
        """Walk all API keys."""
        return walk(self._http, "/v1/Keys", "keys", Key)

    def remove_key(self, sid: str, *, descendants: bool = False) -> None:
        """Remove an API key, and with ``descendants`` those made with it: they open nothing any more."""
        self._http.delete(f"/v1/Keys/{segment(sid)}{'?Descendants=true' if descendants else ''}")

    def create_account(self, name: str) -> Account:
        """Make an account; the answer holds its Auth Token."""
        return read(self._http.post("/v1/Accounts", make_form(FriendlyName=name)), Account)


def walk(
    http: "Http",
    path: str,
    key: str,
    kind: type[R],
    wanted: Mapping[str, str] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator[R]:
    """Walk the list at ``path``, whose items are under ``key``; under the filter ``wanted``, if there is one."""
    for item in http.pages(path, key, PAGE_SIZE, wanted, warn):
        yield read(bytes(item), kind)


def read(raw: bytes, kind: type[R]) -> R:
    """Read one resource from an answer's JSON. Raises ``Unreachable`` when it is none."""
    value = decode(raw, kind)
    vars(value)["document"] = raw
    return value


def make_form(**parameters: str | Sequence[str] | None) -> "Form":
    """Return the parameters that are not ``None``."""
    return {name: value for name, value in parameters.items() if value is not None}


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def device_path(ref: str) -> str:
    """Return the path of a device, by SID or unique name."""
    return f"/v1/Devices/{segment(ref)}"


def _app(ref: str) -> str:
    return f"/v1/Apps/{segment(ref)}"


def _store(store: str, device: str | None) -> str:
    return f"/v1/{store}" if device is None else f"{device_path(device)}/{store}"


def segment(text: str) -> str:
    """Escape ``text`` so that it is one segment of a path, even if it is ``.`` or ``..``."""
    if text in {".", ".."}:
        return text.replace(".", "%2E")
    return quote(text, safe="")
