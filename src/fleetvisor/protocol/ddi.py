"""hawkBit's Direct Device Integration, version 1: its bodies, decoded and rendered.

Pure: bytes in, values out, and back. What a device says is mapped to the words of ``lifecycle`` here. Deliberately no
policy (``features/updates/device_answers`` decides what an answer means), no HTTP, and no more of the protocol than its
clients use: links are written compactly, because a Zephyr device has 1,100 bytes for a whole answer. An action is an
update; its id is the update's number, written as text, which every client takes. Spec: ``docs/reference/ddi.md``.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final, Literal, TypeVar, assert_never, cast, get_args

import msgspec

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import lenient
from fleetvisor.protocol.lenient import readable
from fleetvisor.protocol.lifecycle import DeviceAnswer

OPEN_SLEEP_S: Final = 5
_SLEEP_MAX_S: Final = 24 * 3600 - 1

T = TypeVar("T")
_SHOWN_CHARS: Final = 40

Execution = Literal["closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "downloaded", "download"]
Finished = Literal["success", "failure", "none"]
Merging = Literal["merge", "replace", "remove"]
Consent = Literal["confirmed", "denied"]


class Result(msgspec.Struct, frozen=True):
    """How far an action is said to be."""

    finished: Finished = "none"


class Status(msgspec.Struct, frozen=True):
    """What a device says about an action; ``details`` are lines for people, or one line."""

    execution: Execution
    result: Result = Result()
    details: tuple[str, ...] | str = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """``details`` as lines."""
        return (self.details,) if isinstance(self.details, str) else self.details


class _Result(msgspec.Struct, frozen=True):
    finished: str | None = None


class _Status(msgspec.Struct, frozen=True):
    execution: str
    result: _Result | None = None
    details: Any = None


class _Feedback(msgspec.Struct, frozen=True):
    status: _Status


class _ConfigData(msgspec.Struct, frozen=True):
    data: dict[str, Any]
    mode: str | None = None


class _Confirmation(msgspec.Struct, frozen=True):
    confirmation: str
    details: Any = None


class Feedback(msgspec.Struct, frozen=True):
    """The body of a feedback. Its id and time are not read: the path names the action, the server knows the time."""

    status: Status


class ConfigData(msgspec.Struct, frozen=True):
    """The body of configData: what the device says about itself; ``left_out``: keys whose value is no text."""

    data: dict[str, str]
    mode: Merging = "merge"
    left_out: tuple[str, ...] = ()


class Confirmation(msgspec.Struct, frozen=True):
    """The body of a confirmation's feedback."""

    confirmation: Consent
    details: tuple[str, ...] | str = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """``details`` as lines."""
        return (self.details,) if isinstance(self.details, str) else self.details


class Artifact(msgspec.Struct, frozen=True):
    """One file of a deployment, with its digests in lower-case hex; ``href`` is absolute."""

    filename: str
    sha1: str
    md5: str
    sha256: str
    size_bytes: int
    href: str


class Poll(msgspec.Struct, frozen=True):
    """What a poll offers: numbers of updates, ``None`` where there is no such link."""

    interval_s: int
    deploy: int | None = None
    cancel: int | None = None
    confirm: int | None = None
    installed: int | None = None
    wants_data: bool = False


_feedback: Final = msgspec.json.Decoder(_Feedback)
_config_data: Final = msgspec.json.Decoder(_ConfigData)
_confirmation: Final = msgspec.json.Decoder(_Confirmation)


def parse_feedback(raw: bytes) -> Feedback:
    """Decode a feedback: its state strictly, its text leniently. Raises ``Invalid`` naming the field."""
    status = lenient.parse(_feedback, raw).status
    finished = status.result.finished if status.result is not None else None
    execution: Execution = _one_of(status.execution, get_args(Execution), "status.execution")
    result = Result(_one_of("none" if finished is None else finished, get_args(Finished), "status.result.finished"))
    return Feedback(Status(execution, result, _lines(status.details)))


def parse_config_data(raw: bytes) -> ConfigData:
    """Decode configData; a body without ``mode`` (older clients) merges. Raises ``Invalid``.

    A number or a truth is its text; another value is left out.
    """
    found = lenient.parse(_config_data, raw)
    texts: dict[str, str | None] = {readable(key): _text(value) for key, value in found.data.items()}
    data: dict[str, str] = {key: readable(text) for key, text in texts.items() if text is not None}
    mode: Merging = _one_of("merge" if found.mode is None else found.mode, get_args(Merging), "mode")
    return ConfigData(data, mode, tuple(key for key in texts if key not in data))


def parse_confirmation(raw: bytes) -> Confirmation:
    """Decode a confirmation. Raises ``Invalid``."""
    found = lenient.parse(_confirmation, raw)
    return Confirmation(_one_of(found.confirmation, get_args(Consent), "confirmation"), _lines(found.details))


def answer_of(status: Status) -> DeviceAnswer:
    """Return what a feedback says. ``closed`` without a failure is success, also where the device says ``none``."""
    match status.execution:
        case "closed":
            return DeviceAnswer.FAILED if status.result.finished == "failure" else DeviceAnswer.FINISHED
        case "rejected":
            return DeviceAnswer.REFUSED
        case "canceled":
            return DeviceAnswer.CANCELED
        case "downloaded":
            return DeviceAnswer.DOWNLOADED
        case "download" | "proceeding" | "resumed":
            return DeviceAnswer.PROCEEDING
        case "scheduled":
            return DeviceAnswer.SCHEDULED
        case _:
            assert_never(status.execution)


def cancel_answer_of(status: Status) -> DeviceAnswer:
    """Return what a device says to a cancel: here ``closed`` without a failure means that the action is canceled."""
    said = answer_of(status)
    match said:
        case DeviceAnswer.FINISHED:
            return DeviceAnswer.CANCELED
        case DeviceAnswer.SCHEDULED | DeviceAnswer.DOWNLOADED:
            return DeviceAnswer.PROCEEDING
        case _:
            return said


def parse_number(text: str) -> int | None:
    """Return an action's number; ``None`` for what cannot be one (its text has 1 to 10 digits and fits 31 bits)."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or text[0] == "0":
        return None
    number = int(text)
    return number if number <= 0x7FFFFFFF else None


def sleep(seconds: int) -> str:
    """Render a time between polls as exactly ``HH:MM:SS``, the only form that SWUpdate takes.

    23:59:59 at most: rauc-hawkbit 0.2.0 reads it as a time of day.
    """
    seconds = min(max(seconds, 1), _SLEEP_MAX_S)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def render_poll(base: str, poll: Poll, tag: str) -> bytes:
    """Render the answer of a poll. ``base`` is the device's own URL, ``tag`` changes with what is offered."""
    links: dict[str, dict[str, str]] = {}
    for name, number, query in (
        ("cancelAction", poll.cancel, ""),
        ("deploymentBase", poll.deploy, f"?c={tag}"),
        ("confirmationBase", poll.confirm, f"?c={tag}"),
        ("installedBase", poll.installed, ""),
    ):
        if number is not None:
            links[name] = {"href": f"{base}/{name}/{number}{query}"}
    if poll.wants_data:
        links["configData"] = {"href": f"{base}/configData"}
    busy = any(number is not None for number in (poll.deploy, poll.cancel, poll.confirm))
    interval = sleep(min(poll.interval_s, OPEN_SLEEP_S) if busy else poll.interval_s)
    return msgspec.json.encode({"config": {"polling": {"sleep": interval}}, "_links": links})


def render_deployment(
    number: int, mode: str, name: str, version: str, artifacts: tuple[Artifact, ...], *, key: str = "deployment"
) -> bytes:
    """Render an action with its one chunk. ``key`` is ``confirmation`` where consent is asked first."""
    chunk = {
        "part": "bApp",
        "version": version,
        "name": name,
        "artifacts": [_artifact(artifact) for artifact in artifacts],
    }
    return msgspec.json.encode({"id": str(number), key: {"download": mode, "update": mode, "chunks": [chunk]}})


def render_artifacts(artifacts: tuple[Artifact, ...]) -> bytes:
    """Render the files of one software module."""
    return msgspec.json.encode([_artifact(artifact) for artifact in artifacts])


def render_cancel(number: int) -> bytes:
    """Render the question whether an action can be canceled; it stands under the action's own number."""
    return msgspec.json.encode({"id": str(number), "cancelAction": {"stopId": str(number)}})


def _artifact(artifact: Artifact) -> dict[str, Any]:
    link = {"href": artifact.href}
    return {
        "filename": artifact.filename,
        "hashes": {"sha1": artifact.sha1, "md5": artifact.md5, "sha256": artifact.sha256},
        "size": artifact.size_bytes,
        "_links": {"download": link, "download-http": link},
    }


def _one_of(word: str, allowed: Sequence[T], field: str) -> T:
    """Return a word of a body if it is allowed. Raises ``Invalid``, which names the field and what may stand there."""
    for one in allowed:
        if word == one:
            return one
    rule = f"{field} must be one of {', '.join(map(str, allowed))}, not {word[:_SHOWN_CHARS]!a}"
    raise Invalid(f"The body cannot be read: {rule}.")


def _lines(details: Any) -> tuple[str, ...]:  # noqa: ANN401  (any JSON)
    """Return lines for people of whatever ``details`` is: a list, one text, or nothing."""
    if details is None:
        return ()
    found = cast("list[Any]", details) if isinstance(details, list) else [details]
    return tuple(each if isinstance(each, str) else _show(each) for each in found if each is not None)


def _show(value: Any) -> str:  # noqa: ANN401  (any JSON)
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str | None:  # noqa: ANN401  (any JSON)
    if isinstance(value, str):
        return value
    return _show(value) if isinstance(value, int | float) and isfinite(value) else None
