"""Labels: short keys and values by which people group devices. Rules without clock or storage, and their rows.

A change is written as the API and the command line give it: ``key=value`` sets, ``key-`` removes. The device's row
holds its labels as the API shows them; ``device_labels`` holds the same to select by. Spec:
``docs/reference/labels.md``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.devices.rules import LABEL_KEY, RESERVED_LABELS
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, DeviceSid

_KEY: Final = re.compile(LABEL_KEY)
_ANOTHER: Final = re.compile(rf"[,;][ ]?({LABEL_KEY})=")
# A cell whose labels are sound, if they are printable, short and few, and each key stands once.
_PAIR: Final = rf"{LABEL_KEY}+=(?![ ])(?:[^;,]|,(?![ ]?{LABEL_KEY}+=))++"
_SOUND_CELL: Final = re.compile(f"{_PAIR}(?:;{_PAIR})*+")


def _halves(pair: str) -> list[str]:
    return pair.split("=", 1)


_INSERT: Final = """
INSERT INTO device_labels (device_sid, key, account_sid, value, date_created)
VALUES (:device_sid, :key, :account_sid, :value,
    (SELECT d.date_created FROM devices d WHERE d.device_sid = :device_sid))"""


class _Labels(msgspec.Struct, frozen=True):
    labels: str


def parse(texts: Iterable[str], limits: Limits) -> dict[str, str | None]:
    """Return the changes by key, ``None`` to remove. Raises ``Invalid`` with the rule that a text breaks."""
    changes: dict[str, str | None] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            if not key.endswith("-"):
                raise Invalid(f"Labels: {text[:80]!a} is neither key=value nor key- (to remove it).")
            key = key[:-1]
        check(key, value if equals else "x", limits)
        if another := _ANOTHER.search(value):
            raise _crowded(text, f"{key}={value[: another.start()]}"[:80], another[1])
        if key in changes:
            raise Invalid(f"Labels: {key!a} is given more than once.")
        changes[key] = value if equals else None
    return changes


def parse_cell(text: str, limits: Limits) -> dict[str, str]:
    """Return the labels of a new device from ``key=value;key=value``, in the order of their keys. Raises ``Invalid``.

    A file has up to 32 labels on each line: sound cells are read as a whole, in a third of the time of ``parse``.
    """
    pairs = text.split(";")
    if not _is_sound(text):
        pairs = [pair for given in pairs if (pair := given.strip())]
        if not _is_sound(";".join(pairs)):
            return _parse_new(pairs, limits)
    if len(pairs) == 1:
        key, _, value = pairs[0].partition("=")
        if len(value) <= limits.label_chars_max and key not in RESERVED_LABELS:
            return {key: value}
        return _parse_new(pairs, limits)
    found: dict[str, str] = dict(map(_halves, pairs))
    short = max(map(len, found.values())) <= limits.label_chars_max
    if short and len(pairs) == len(found) <= limits.labels_max and RESERVED_LABELS.isdisjoint(found):
        return {key: found[key] for key in sorted(found)}
    return _parse_new(pairs, limits)


def _is_sound(cell: str) -> bool:
    """Return whether each label is sound by itself, apart from its length and reserved keys."""
    return (
        cell.isprintable() and " ;" not in cell and not cell.endswith(" ") and _SOUND_CELL.fullmatch(cell) is not None
    )


def _parse_new(pairs: Iterable[str], limits: Limits) -> dict[str, str]:
    changes = parse(pairs, limits)
    if None in changes.values():
        raise Invalid("Labels: a new device has none to remove.")
    return merged({}, changes, limits)


def _crowded(text: str, first: str, second: str) -> Invalid:
    return Invalid(
        f"Labels: {text[:80]!a} holds more than one label. Give each its own parameter:"
        f" Labels={first}&Labels={second}=…; on the command line its own --label; in a CSV cell {first};{second}=…"
    )


def check(key: str, value: str, limits: Limits) -> None:
    """Refuse a key or value that may not be one. Raises ``Invalid``."""
    if _KEY.fullmatch(key) is None:
        raise Invalid(f"Labels: the key {key[:80]!a} must have 1 to 63 characters of A-Z a-z 0-9 . _ / and -.")
    if key in RESERVED_LABELS:
        raise Invalid(f"Labels: the key {key!a} is reserved.")
    if not 0 < len(value) <= limits.label_chars_max or not value.isprintable():
        raise Invalid(f"Labels: the value of {key!a} must have 1 to {limits.label_chars_max} printable characters.")
    if value != value.strip():
        raise Invalid(
            f"Labels: the value of {key!a} must not begin or end with a blank: {value.strip()!a} would not find it."
        )


def is_key(text: str) -> bool:
    """Return whether a label may have this key."""
    return _KEY.fullmatch(text) is not None and text not in RESERVED_LABELS


def merged(present: Mapping[str, str], changes: Mapping[str, str | None], limits: Limits) -> dict[str, str]:
    """Return the labels after the changes, in the order of their keys. Raises ``Invalid`` when they are too many."""
    both = {**present, **changes} if present else changes
    after = {key: value for key in sorted(both) if (value := both[key]) is not None}
    if len(after) > limits.labels_max:
        raise Invalid(f"A Device has {limits.labels_max} labels at most; this would be {len(after)}.")
    return after


def decode(text: str) -> dict[str, str]:
    """Read labels as they lie in a row."""
    return msgspec.json.decode(text, type=dict[str, str])


def encode(labels: Mapping[str, str]) -> str:
    """Write labels as they lie in a row."""
    return msgspec.json.encode(labels).decode()


async def change(
    tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, changes: Mapping[str, str | None], limits: Limits
) -> None:
    """Change a device's labels. Raises ``Invalid``."""
    if not changes:
        return
    keys = {"account_sid": account_sid, "device_sid": device_sid}
    sql = "SELECT labels FROM devices WHERE account_sid = :account_sid AND device_sid = :device_sid"
    row = await tx.one(_Labels, sql, keys)
    if row is not None:
        await store(tx, account_sid, device_sid, merged(decode(row.labels), changes, limits))


async def store(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, labels: Mapping[str, str]) -> None:
    """Set a device's labels to exactly these."""
    keys = {"account_sid": account_sid, "device_sid": device_sid}
    sql = "UPDATE devices SET labels = :labels WHERE account_sid = :account_sid AND device_sid = :device_sid"
    await tx.run(sql, {**keys, "labels": encode(labels)})
    await tx.run("DELETE FROM device_labels WHERE account_sid = :account_sid AND device_sid = :device_sid", keys)
    rows = [{**keys, "key": key, "value": value} for key, value in labels.items()]
    await tx.write_many(_INSERT, rows)


async def insert_many(tx: Tx, account_sid: AccountSid, devices: Iterable[tuple[DeviceSid, Mapping[str, str]]]) -> None:
    """Make the rows by which new devices are selected; their own rows hold the labels already."""
    rows = [
        {"account_sid": account_sid, "device_sid": device_sid, "key": key, "value": value}
        for device_sid, labels in devices
        for key, value in labels.items()
    ]
    await tx.write_many(_INSERT, rows)
