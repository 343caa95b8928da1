"""A native device's report as the server reads it: its state strictly, what is optional beside it leniently.

Pure. Journal, sequence, what runs, and an update's number and state are a command: a report without them, or with wrong
ones, is refused. A value beside them that cannot be read is left out, as if the device had not sent it, and named, so
that somebody is told. Spec: ``docs/reference/device-api.md``.
"""

from typing import Any, Final, cast

import msgspec

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import lenient
from fleetvisor.protocol.native import AppName, Report, Sha256, Uint32, Uint63

_report: Final = msgspec.json.Decoder(Report)
_OPTIONAL: Final[dict[tuple[str, ...], Any]] = {
    ("boot_count",): Uint32,
    ("wake_reason",): Uint32,
    ("update", "bytes_done"): Uint63,
    ("update", "bytes_total"): Uint63,
    ("update", "error_code"): Uint32,
    ("running", "app"): AppName,
}
"""What may be left out, and what it must be."""


def parse_report(raw: bytes) -> tuple[Report, tuple[str, ...]]:
    """Return a report and the names of its values that were left out (``null`` is none). Raises ``Invalid``.

    ``running.app`` alone says what runs where there is no manifest: then it is read strictly.
    """
    try:
        return _report.decode(raw), ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        read = lenient.read(raw, error)
    left_out = tuple(_leave_out(read))
    return lenient.convert(read, Report), left_out


def _leave_out(read: Any) -> list[str]:  # noqa: ANN401  (any JSON)
    """Take out of ``read`` the optional values that cannot be read, and return their names."""
    left_out: list[str] = []
    for path, kind in _OPTIONAL.items():
        holder = read
        for name in path[:-1]:
            holder = cast("dict[str, Any]", holder).get(name) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or path[-1] not in holder:
            continue
        holder = cast("dict[str, Any]", holder)
        value = holder[path[-1]]
        if _is(value, kind) or (path == ("running", "app") and not _is(holder.get("manifest"), Sha256)):
            continue
        del holder[path[-1]]
        if value is not None:
            left_out.append(".".join(path))
    return left_out


def _is(value: Any, kind: Any) -> bool:  # noqa: ANN401  (any JSON)
    try:
        lenient.convert(value, kind)
    except Invalid:
        return False
    return True
