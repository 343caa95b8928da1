"""What each error code means in practice: the causes that its page and ``docs/reference/errors.md`` list.

Deliberately text only; which problem there is, with its number and its hint, says ``ground/errors``. Spec: the
Microvisor API reference, section 1.2.
"""

from typing import Final

from fleetvisor.ground import errors
from fleetvisor.ground.errors import Problem

CAUSES: Final[dict[int, tuple[str, ...]]] = {
    20001: (
        "A required parameter is missing, or its name is spelt differently: names are case-sensitive.",
        "A parameter is not known here, or stands in the query in place of the form; the detail names the nearest one.",
        "A parameter is empty where that could be taken for something else; send a value, or leave it out.",
        "A parameter that may come once came twice, or TargetApp and its old name AppSid differ.",
        "A boolean is not true or false, a PageSize is not a number from 1 on, a name or key breaks a rule.",
        "TargetApp names no App of this account.",
        "The path, the query or the form holds a NUL character or is not valid UTF-8.",
        "The body ended early, or its chunks (Transfer-Encoding) are malformed.",
        "The uploaded bundle is malformed; the detail names the entry and the rule.",
        "The device request is not the JSON that the reference shows; the detail names the field.",
    ),
    21481: (
        "The PageToken was cut off, altered or made up.",
        "The PageToken belongs to another list, another Device or another account.",
    ),
    20003: (
        "The request has no Authorization header, or one of another scheme.",
        "The Account SID, the API key SID, the Auth Token or the secret is wrong.",
        "The API key was removed.",
        "A device's token is wrong, or the Device was removed or disabled.",
    ),
    20013: (
        "A device's token has ended, or begins in the future, by more than the 5 minutes that clocks may differ.",
        "An enrolment's proof was issued more than 5 minutes before or after the server's time.",
        "The device's clock is wrong: every answer has a Date header to set it by.",
    ),
    20006: (
        "The API key's role does not allow this request.",
        "Only an Auth Token may change Auth Tokens, and only the first account's may make, list and end accounts.",
        "An enrolment token is used up, over or revoked, or the key was a Device's that is removed or disabled.",
        "A Device that registered itself is not accepted yet: it may only poll. Or too many wait already.",
    ),
    20404: (
        "Nothing has this path, SID, unique name, key or number; names are case-sensitive.",
        "It belongs to another account: what is another's does not exist for you.",
        "The path ends with a slash.",
        "A Config or Secret was to be updated before it was created.",
        "A device asks for a manifest or a layer that no App of its account has.",
    ),
    20004: ("The path exists, but not with this method. There is no PUT and no PATCH: POST updates.",),
    20409: (
        "A unique name, a key or a Device's SID exists already.",
        "The App to delete is the target of a Device, or an update to it is open.",
        "The account or the Device has as many of these as it may have; see the limits page.",
    ),
    20410: ("A device speaks of an update that succeeded, failed, was canceled or was superseded meanwhile.",),
    20413: (
        "The uploaded bundle is larger than the limit.",
        "The form or the device request is larger than the limit.",
    ),
    20415: (
        "A form was sent with another Content-Type than application/x-www-form-urlencoded, or with none.",
        "A bundle was sent as something else than multipart/form-data.",
        "A device request was sent as something else than application/json.",
    ),
    20416: ("A device asked for bytes at or beyond the end of a layer or manifest.",),
    20429: ("More requests came than this server takes in the time; nothing was changed.",),
    20500: ("The server has a fault. The request may or may not have been carried out: look before you repeat it.",),
    20503: (
        "The server is starting or stopping.",
        "The database is busy or out of reach.",
        "The stored bytes of a firmware are damaged or missing: uploading the same file again mends them.",
        "The server's disk is full, read-only or failing, or its database is damaged; the detail says which.",
        "A folder or the database file of the server was removed or replaced, or the server may not use it.",
        "The body did not arrive in the time that the limits page gives.",
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
        "Every error answer is JSON with five fields, whatever went wrong and on every path:",
        "",
        "```json",
        '{"code": 20404, "detail": "No Device matches the given identifier.",',
        ' "message": "The requested resource /v1/Devices/boiler-7 was not found",',
        ' "more_info": "https://HOST/docs/errors/20404", "status": 404}',
        "```",
        "",
        "`code` is one of these, `status` the HTTP status again, `detail` a sentence about this very request,",
        "`message` the kind of error and that sentence (of a 404 the path), `more_info` a page of the server that",
        "explains the code; `/docs/errors.json` lists them all. The header `Twilio-Request-Id` names the request, in",
        "the answer and in the server's log. The numbers are those of the original API where it had one; 20013, 20413",
        "and 20416 are ours.",
        "",
        "Generated from `ground/errors.py` and `api/explanations.py` by `make docs`.",
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
