"""What each error code means in practice: the causes that its page and ``docs/reference/errors.md`` list.

Deliberately text only; which problem there is, with its number and its hint, says ``ground/errors``. Spec: the
Microvisor API reference, section 1.2.
"""

from typing import Final

from fleetvisor.ground import errors
from fleetvisor.ground.errors import Problem

CAUSES: Final[dict[int, tuple[str, ...]]] = {
    20001: (
        "A required parameter is missing, or its name is misspelt. Names are case-sensitive.",
        "A parameter is unknown, or is in the query instead of the form. The detail names the nearest known parameter.",
        "A parameter is empty, and an empty value would be ambiguous. Send a value, or omit the parameter.",
        "A parameter appears twice that may appear only once, or TargetApp and its old name AppSid differ.",
        "A boolean is not true or false, a PageSize is not a number of at least 1, or a name or key breaks a rule.",
        "TargetApp names no App of this account.",
        "The path, the query or the form contains a NUL character or is not valid UTF-8.",
        "The body ended early, or its chunks (Transfer-Encoding) are malformed.",
        "The uploaded bundle is malformed; the detail names the entry and the rule.",
        "The device request does not match the JSON in the reference; the detail names the field.",
    ),
    21481: (
        "The PageToken was truncated, altered or invented.",
        "The PageToken belongs to another list, another Device or another account.",
    ),
    20003: (
        "The request has no Authorization header, or the header has another scheme.",
        "The Account SID, the API key SID, the Auth Token or the secret is wrong.",
        "The API key was removed.",
        "A device's token is wrong, or the Device was removed or disabled.",
    ),
    20013: (
        "A device's token expired, or becomes valid in the future, by more than the 5 minutes that clocks may differ.",
        "An enrolment's proof was issued more than 5 minutes before or after the server's time.",
        "The device's clock is wrong. Set the clock from the Date header, which every answer has.",
    ),
    20006: (
        "The API key's role does not allow this request.",
        "Only an Auth Token can change Auth Tokens. Only that of the first account can create, list and end accounts.",
        "An enrolment token is used up, expired or revoked, or the key belongs to a removed or disabled Device.",
        "A Device that registered itself is not accepted yet, so it can only poll. Or too many Devices already wait.",
    ),
    20404: (
        "Nothing has this path, SID, unique name, key or number; names are case-sensitive.",
        "The resource belongs to another account, so it does not exist for you.",
        "The path ends with a slash.",
        "The request updates a Config or Secret that does not exist yet.",
        "A device requests a manifest or a layer that no App of its account contains.",
    ),
    20004: ("The path exists, but not with this method. There is no PUT and no PATCH: POST updates.",),
    20409: (
        "A unique name, a key or a Device's SID exists already.",
        "The App to delete is the target of a Device, or a Device has an open update to it.",
        "The account or the Device has reached its maximum number; see the limits page.",
    ),
    20410: ("A device reports about an update that has already succeeded, failed, or been canceled or superseded.",),
    20413: (
        "The uploaded bundle is larger than the limit.",
        "The form or the device request is larger than the limit.",
    ),
    20415: (
        "A form was sent with a Content-Type other than application/x-www-form-urlencoded, or with none.",
        "A bundle was not sent as multipart/form-data.",
        "A device request was not sent as application/json.",
    ),
    20416: ("A device requested bytes at or beyond the end of a layer or manifest.",),
    20429: ("There were more requests than the server accepts in this time. Nothing was changed.",),
    20500: ("The server has a fault. The request may or may not have taken effect: check before you repeat it.",),
    20503: (
        "The server is starting or stopping.",
        "The database is busy or unreachable.",
        "The stored bytes of a firmware are damaged or missing. Upload the same file again to repair them.",
        "The server's disk is full, read-only or failing, or its database is damaged; the detail says which.",
        "A folder or the database file of the server was removed or replaced, or the server has no access to it.",
        "The body did not arrive in time; see the limits page.",
    ),
}


def kinds() -> list[type[Problem]]:
    """Return every kind of problem that is published, by code."""
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]
    return sorted((kind for kind in found if kind is not Problem), key=lambda kind: (kind.code, kind.__name__))


def message_of(kind: type[Problem]) -> str:
    """Return a kind's message as an answer carries it."""
    return (kind.__doc__ or "").strip().removesuffix(".")


def reference_page() -> str:
    """Render ``docs/reference/errors.md``."""
    lines = [
        "# Error codes",
        "",
        "Every error answer, on every path, is JSON with five fields:",
        "",
        "```json",
        '{"code": 20404, "detail": "No Device matches the given identifier.",',
        ' "message": "The requested resource /v1/Devices/boiler-7 was not found",',
        ' "more_info": "https://HOST/docs/errors/20404", "status": 404}',
        "```",
        "",
        "`code` is one of the codes below. `status` repeats the HTTP status. `detail` is a sentence about this",
        "request. `message` is the kind of error and that sentence (for a 404, the path). `more_info` is a page of the",
        "server that explains the code. `/docs/errors.json` lists all codes. The header `Twilio-Request-Id` identifies",
        "the request, in the answer and in the server's log. If the original API had a number, the code is that",
        "number. 20013, 20413 and 20416 are ours.",
        "",
        "Generated from `ground/errors.py` and `api/error_pages.py` by `make docs`.",
        "",
        "| code | HTTP | message |",
        "|---:|---:|---|",
    ]
    lines += [f"| [{kind.code}](#{kind.code}) | {kind.status} | {message_of(kind)} |" for kind in kinds()]
    for kind in kinds():
        lines += ["", f"## {kind.code}", "", f"HTTP {kind.status}. {message_of(kind)}.", ""]
        lines += [f"- {cause}" for cause in CAUSES[kind.code]]
        lines += ["", f"What to do: {kind.hint}"]
    return "\n".join(lines) + "\n"
