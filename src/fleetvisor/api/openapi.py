"""Our own OpenAPI 3.1 document, made from the table of operations and the structs that render the answers.

Deliberately nothing by hand that the code knows. Extensions carry ``x-fleetvisor-extension: true``.
"""

from typing import Any, Final

import msgspec

from fleetvisor import __version__
from fleetvisor.api.paging import Meta
from fleetvisor.api.parameters import in_form
from fleetvisor.api.routes import Param, Route, Routes
from fleetvisor.ground import errors
from fleetvisor.web.problems import ProblemBody

Json = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_PAGING: Final = (
    ("PageSize", {"type": "integer", "minimum": 1, "default": 50}, "How many items a page has; above 1000 is 1000."),
    ("Page", {"type": "integer", "minimum": 0}, "The page's index, for the client's own use."),
    ("PageToken", {"type": "string"}, "The place of a page, as next_page_url or previous_page_url gave it."),
)
_PATH: Final = {
    "Sid": "The SID or unique name; of a key, its SID.",
    "DeviceSid": "The Device's SID or unique name.",
    "AppSid": "The App's SID or unique name.",
    "Key": "The key.",
    "Number": "The update's number, or its place: 1 is the Device's oldest.",
    "RolloutSid": "The Rollout's SID.",
    "Fingerprint": "The SHA-256 of a token or of a key's uncompressed point, in hex.",
}
_HEADERS: Final = {
    "Twilio-Request-Id": "The id of this request, as it stands in the server's log.",
    "Access-Control-Allow-Origin": "The origins that may read the answer.",
    "Access-Control-Allow-Methods": "The methods that may be used.",
    "Access-Control-Allow-Headers": "The headers that may be sent.",
    "Access-Control-Allow-Credentials": "Whether the browser may send credentials.",
    "Access-Control-Expose-Headers": "The headers that a page may read.",
}


def document(routes: Routes, base: str) -> Json:
    """Make the document; ``base`` is the server's public URL."""
    kinds = {route.shape for route in routes.table if route.shape is not None}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components([*ordered, Meta, ProblemBody], ref_template=_REF)
    for schema in schemas.values():
        _require_all(schema)
    paths: Json = {}
    for route in routes.table:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleetvisor",
            "version": __version__,
            "description": "The Microvisor REST API, with the extensions that self-hosting needs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "security": [{"accountSid_authToken": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"accountSid_authToken": {"type": "http", "scheme": "basic"}},
        },
    }


def _require_all(schema: Json) -> None:
    """Say that an answer has all of its fields: a default is for what is stored, or for what a client sends."""
    properties: dict[str, Json] = schema.get("properties", {})
    if properties:
        schema["required"] = list(properties)
    for each in properties.values():
        each.pop("default", None)


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": list(route.tags),
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.media is not None:
        operation["requestBody"] = {"required": True, "content": {route.media: {"schema": {"type": "string"}}}}
    elif route.params and in_form(route):
        operation["requestBody"] = _body(route)
    if route.extension:
        operation["x-fleetvisor-extension"] = True
    return operation


def _parameters(route: Route) -> list[Json]:
    names = [part[1:-1] for part in route.template.split("/") if part.startswith("{")]
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": _PATH[name]}
        for name in names
    ]
    if route.list_key:
        found += [
            {"name": name, "in": "query", "schema": schema, "description": text} for name, schema, text in _PAGING
        ]
    if not in_form(route):
        found += [
            {
                "name": param.name,
                "in": "query",
                "required": param.required,
                "schema": {"type": param.kind},
                "description": param.about,
                "x-fleetvisor-extension": True,
            }
            for param in route.params
        ]
    return found


def _body(route: Route) -> Json:
    properties: Json = {param.name: _property(param) for param in route.params}
    schema: Json = {"type": "object", "properties": properties}
    required = [param.name for param in route.params if param.required]
    if required:
        schema["required"] = required
    media = "multipart/form-data" if route.upload else "application/x-www-form-urlencoded"
    return {"required": bool(required), "content": {media: {"schema": schema}}}


def _property(param: Param) -> Json:
    schema: Json = {"type": param.kind, "description": param.about}
    if param.repeated:
        schema |= {"type": "array", "items": {"type": param.kind}}
    if param.kind == "file":
        schema |= {"type": "string", "contentMediaType": "application/octet-stream"}
    if param.chars_max is not None:
        schema["maxLength"] = param.chars_max
    if param.deprecated:
        schema["deprecated"] = True
    if param.extension:
        schema["x-fleetvisor-extension"] = True
    return schema


def _responses(route: Route) -> Json:
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}
    success: Json = {"description": "OK" if route.status != 204 else "The resource was deleted.", "headers": headers}
    if route.shape is not None:
        success["content"] = {"application/json": {"schema": _answer_schema(route)}}
    responses: Json = {str(route.status): success}
    for status in sorted({*route.errors, 400} if route.extension else route.errors):
        responses[str(status)] = _error(status)
    responses["default"] = _error(500)
    return responses


def _answer_schema(route: Route) -> Json:
    item = {"$ref": _REF.format(name=route.shape.__name__ if route.shape else "")}
    if route.list_key is None:
        return item
    properties: Json = {
        route.list_key: {"type": "array", "items": item},
        "meta": {"$ref": _REF.format(name=Meta.__name__)},
    }
    if any(param.name == "Selector" for param in route.params):
        about = "Labels of the Selector that nothing of the account has; absent without a Selector."
        texts: Json = {"type": "array", "items": {"type": "string"}, "description": about}
        properties["warnings"] = {**texts, "x-fleetvisor-extension": True}
    return {"type": "object", "required": [route.list_key, "meta"], "properties": properties}


def _error(status: int) -> Json:
    kinds = [kind for kind in errors.Problem.__subclasses__() if kind.status == status]
    text = (kinds[0].__doc__ or "").strip() if kinds else "Another problem."
    schema = {"$ref": _REF.format(name=ProblemBody.__name__)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
