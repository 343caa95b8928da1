"""The OpenAPI 3.1 document of the native device API, made from the structs that are its wire format.

Deliberately apart from the REST API's document: other credentials, other clients. Spec: OpenAPI 3.1;
``docs/reference/device-api.md``.
"""

from typing import Any, Final

import msgspec

from fleetvisor import __version__
from fleetvisor.protocol.native import (
    Desired,
    EnrollAnswer,
    EnrollRequest,
    FetchAnswer,
    FetchRequest,
    Report,
    ReportAnswer,
)
from fleetvisor.web.problems import ProblemBody

Json = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "429": "Too many writes, or too many wrong credentials. Retry-After says when to retry.",
    "400": "The request is malformed; the detail names the field.",
    "401": "The token is missing, wrong, or its Device is disabled or removed.",
    "404": "No App of the Device's account has this content.",
    "413": "The body is larger than the maximum for a device request.",
    "415": "The body is not application/json.",
    "416": "The range lies outside the content; Content-Range gives its size.",
    "default": "Any other problem.",
}
_OPTIONAL: Final = (
    ("Report", "boot_count"),
    ("Report", "wake_reason"),
    ("UpdateReport", "bytes_done"),
    ("UpdateReport", "bytes_total"),
    ("UpdateReport", "error_code"),
    ("Running", "app"),
)
_DIGEST: Final[Json] = {
    "name": "sha256",
    "in": "path",
    "required": True,
    "description": "The SHA-256 of the content, in lower-case hex.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}


def document(base: str, *, items_max: int) -> Json:
    """Make the document; ``base`` is the server's public URL, ``items_max`` how many values one request may ask for."""
    kinds = [Desired, EnrollAnswer, EnrollRequest, FetchAnswer, FetchRequest, ProblemBody, Report, ReportAnswer]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    schemas["FetchRequest"]["properties"]["items"] |= {"minItems": 1, "maxItems": items_max}
    schemas["FetchItem"]["properties"]["key"] |= {"pattern": "^[^\\u0000]*$"}
    _loosen(schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleetvisor native device API",
            "version": __version__,
            "description": "The API for an agent on a device: desired state, downloads, reports, values.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "security": [{"deviceToken": []}],
        "paths": {
            "/device/v1/desired": {"get": _desired("get"), "head": _desired("head")},
            "/device/v1/manifests/{sha256}": _content("Manifest", "an App's manifest, byte for byte as uploaded"),
            "/device/v1/layers/{sha256}": _content("Layer", "one layer's bytes"),
            "/device/v1/report": {
                "post": _post("report", "Report what runs and the state of the update", "Report", "ReportAnswer")
            },
            "/device/v1/configs/fetch": {
                "post": _post("fetchConfigs", "Fetch values of configs and secrets", "FetchRequest", "FetchAnswer")
            },
            "/device/v1/enroll": {"post": _enroll()},
            "/device/v1/openapi.json": {"get": _self()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"deviceToken": {"type": "http", "scheme": "bearer", "bearerFormat": "fvd_… or JWT"}},
        },
    }


def _loosen(schemas: Json) -> None:
    """Say of a report's optional values what the server does: it takes any, and leaves out what it cannot read."""
    for kind, name in _OPTIONAL:
        asked = schemas[kind]["properties"][name]
        schemas[kind]["properties"][name] = {
            "description": "A value that cannot be read is omitted and reported; the report is accepted.",
            "default": asked["default"],
        }


def _enroll() -> Json:
    post = _post("enroll", "Enrol with a token and the proof of a key", "EnrollRequest", "EnrollAnswer")
    created = {**post["responses"]["200"], "description": "A new Device."}
    refused = {**post["responses"]["401"], "description": "The token is used up or expired, or the key is refused."}
    responses = {**post["responses"], "201": created, "403": refused}
    return {**post, "security": [], "responses": dict(sorted(responses.items()))}


def _desired(method: str) -> Json:
    responses: Json = {
        "200": {"description": "The desired state.", "headers": _headers("ETag", "Preference-Applied")},
        "304": {
            "description": "Nothing has changed since the entity tag, or before the wait ended. No body.",
            "headers": _headers("ETag", "Preference-Applied", "Retry-After"),
        },
        **_problems("400", "401", "429"),
    }
    if method == "get":
        responses["200"]["content"] = _json("Desired")
    return {
        "operationId": f"{method}Desired",
        "summary": "What the device should do",
        "parameters": [
            _header("If-None-Match", "Entity tags of desired states that the device already has: one, a list, or *."),
            _header("Prefer", "wait=N holds the request for up to N seconds while nothing changes (RFC 7240)."),
        ],
        "responses": responses,
    }


def _content(name: str, what: str) -> Json:
    bytes_of: Json = {"content": {"application/octet-stream": {}}}
    found: Json = {}
    for method in ("get", "head"):
        responses: Json = {
            "200": {"description": f"The whole of {what}.", "headers": _headers("ETag", "Accept-Ranges")},
            "304": {"description": "The device has it: the entity tag is the content's SHA-256."},
            **_problems("400", "401", "404", "429"),
        }
        parameters = [_DIGEST, _header("If-None-Match", "Entity tags of what the device has.")]
        if method == "get":
            responses["200"] |= bytes_of
            responses["206"] = {
                "description": f"A range of {what}.",
                "headers": _headers("ETag", "Content-Range"),
                **bytes_of,
            }
            responses |= _problems("416")
            parameters += [
                _header("Range", "One range of bytes; for several ranges the answer is the whole content."),
                _header("If-Range", "The range is served only if this is the entity tag."),
            ]
        found[method] = {
            "operationId": f"{method}{name}",
            "summary": f"Fetch {what}",
            "parameters": parameters,
            "responses": responses,
        }
    return found


def _post(operation: str, summary: str, body: str, answer: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {
            "200": {"description": "Accepted. Repeating the request does no harm.", "content": _json(answer)},
            **_problems("400", "401", "413", "415", "429"),
        },
    }


def _self() -> Json:
    return {
        "operationId": "getDocument",
        "summary": "This document",
        "security": [],
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {}}}},
    }


def _problems(*statuses: str) -> Json:
    return {
        status: {"description": _PROBLEMS[status], "content": _json("ProblemBody")} for status in (*statuses, "default")
    }


def _json(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _header(name: str, about: str) -> Json:
    return {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}


def _headers(*names: str) -> Json:
    return {name: {"schema": {"type": "string"}} for name in names}
