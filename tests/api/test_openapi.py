"""Our OpenAPI document: it agrees with the published one, and marks whatever goes beyond it."""

from pathlib import Path

import pytest
from tests.api import published

from fleetvisor.db.sqlite import memory
from fleetvisor.obs.metrics import route_of

MARK = "x-fleetvisor-extension"


@pytest.fixture
def engine():
    """No engine differs here."""
    return memory()


@pytest.fixture
async def document(hands):
    return (await hands.get("/openapi.json")).json


def resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def answer_of(document, operation, status):
    return resolved(document, operation["responses"][str(status)]["content"]["application/json"]["schema"])


def test_the_published_facts_are_whole():
    assert len(published.OPERATIONS) == 27
    assert len({path for _, path, *_ in published.OPERATIONS}) == 13


@pytest.mark.parametrize("fact", published.OPERATIONS, ids=lambda fact: fact[2])
async def test_a_published_operation_is_ours(document, fact):
    """Same operationId, path, parameters, body, status and properties; what we add is marked."""
    method, path, operation_id, params, form, status, answer = fact
    operation = document["paths"][path][method.lower()]
    assert operation["operationId"] == operation_id
    assert MARK not in operation
    assert [param["name"] for param in operation["parameters"] if MARK not in param] == params.split()
    for param in operation["parameters"]:
        assert param["in"] == ("path" if f"{{{param['name']}}}" in path else "query")
        assert param.get("required", False) == (param["in"] == "path")
    body = operation.get(
        "requestBody", {"content": {"application/x-www-form-urlencoded": {"schema": {"properties": {}}}}}
    )
    schema = body["content"]["application/x-www-form-urlencoded"]["schema"]
    own = [name for name, prop in schema["properties"].items() if MARK not in prop]
    assert own == [name.rstrip("!") for name in form.split()]
    assert schema.get("required", []) == [name[:-1] for name in form.split() if name.endswith("!")]
    successes = [code for code in operation["responses"] if code.startswith("2")]
    assert successes == [str(status)]
    if answer is None:
        assert "content" not in operation["responses"][str(status)]
        return
    found = answer_of(document, operation, status)
    if isinstance(answer, list):
        ours = [name for name, shown in found["properties"].items() if shown.get("x-fleetvisor-extension")]
        assert list(found["properties"]) == [answer[0], "meta", *ours]
        assert ours in ([], ["warnings"])
        meta = resolved(document, found["properties"]["meta"])
        assert sorted(meta["properties"]) == published.META.split()
        found, answer = resolved(document, found["properties"][answer[0]]["items"]), answer[1]
    names = {name for name, prop in found["properties"].items() if MARK not in prop}
    seed = {"logging_enabled", "date_logging_expires", "app_update", "info", "status"} if answer == "device" else set()
    assert names == set(published.SCHEMAS[answer].split()) | seed


async def test_every_other_operation_is_marked_as_an_extension(document):
    ours = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if MARK in operation
    }
    theirs = {(method, path) for method, path, *_ in published.OPERATIONS}
    everything = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert ours == everything - theirs
    assert ours == {
        ("POST", "/v1/Apps"),
        ("POST", "/v1/Devices"),
        ("DELETE", "/v1/Devices/{Sid}"),
        ("GET", "/v1/Devices/{DeviceSid}/Attributes"),
        ("GET", "/v1/Devices/{DeviceSid}/Updates"),
        ("GET", "/v1/Devices/{DeviceSid}/Updates/{Number}"),
        ("POST", "/v1/Accounts"),
        *((method, "/v1/AuthTokens/Secondary") for method in ("POST", "DELETE")),
        ("POST", "/v1/AuthTokens/Promote"),
        ("GET", "/v1/Events"),
        ("GET", "/v1/DeviceCounts"),
        ("POST", "/v1/DeviceImports"),
        *((method, "/v1/Devices/{DeviceSid}/Credentials") for method in ("GET", "POST")),
        ("DELETE", "/v1/Devices/{DeviceSid}/Credentials/{Fingerprint}"),
        ("GET", "/v1/RefusedKeys"),
        ("DELETE", "/v1/RefusedKeys/{Fingerprint}"),
        *((method, "/v1/EnrollmentTokens") for method in ("GET", "POST")),
        *((method, "/v1/EnrollmentTokens/{Sid}") for method in ("GET", "POST", "DELETE")),
        *((method, "/v1/GatewayToken") for method in ("GET", "POST", "DELETE")),
        ("GET", "/v1/Devices/{DeviceSid}/Explain"),
        ("GET", "/v1/Devices/{DeviceSid}/Penalties"),
        ("DELETE", "/v1/Devices/{DeviceSid}/Penalties/{AppSid}"),
        *((method, "/v1/Rollouts") for method in ("GET", "POST")),
        *((method, "/v1/Rollouts/{Sid}") for method in ("GET", "POST", "DELETE")),
        *(("GET", f"/v1/Rollouts/{{RolloutSid}}/{part}") for part in ("Plan", "Decisions", "Devices")),
        ("GET", "/v1/Accounts"),
        *((method, "/v1/Accounts/{Sid}") for method in ("GET", "POST", "DELETE")),
        ("POST", "/v1/Keys"),
        ("GET", "/v1/Keys"),
        ("GET", "/v1/Keys/{Sid}"),
        ("DELETE", "/v1/Keys/{Sid}"),
    }


async def test_the_document_is_whole(document):
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "https://mv.example.com"}]
    assert document["components"]["securitySchemes"]["accountSid_authToken"] == {"type": "http", "scheme": "basic"}
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids)) == 72
    text = repr(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, f"nothing uses {name}"
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            assert {"401", "default"} <= set(operation["responses"])
            for status, response in operation["responses"].items():
                assert response["description"]
                if not status.startswith("2"):
                    assert set(answer_of(document, operation, status)["properties"]) == {
                        "code",
                        "detail",
                        "message",
                        "more_info",
                        "status",
                    }


async def test_anyone_may_read_it(server):
    reply = await server.nobody().get("/openapi.json")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["content-type"] == "application/json"


async def test_every_field_of_an_answer_is_always_there(document):
    schemas = {name: schema for name, schema in document["components"]["schemas"].items() if "properties" in schema}
    assert {"GuardShape", "RolloutShape", "ProblemBody"} <= set(schemas)
    for schema in schemas.values():
        assert schema["required"] == list(schema["properties"])
        assert not any("default" in each for each in schema["properties"].values())


async def test_the_pages_name_every_operation(document):
    """docs/reference/rest-api.md has a row for each call, docs/divergences.md one for each extension."""
    docs = Path(__file__).parents[2] / "docs"
    reference, divergences = (docs / "reference/rest-api.md").read_text(), (docs / "divergences.md").read_text()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            call = f"{method.upper()} {path}"
            stored = "Secrets" in path or path.startswith("/v1/Devices/{DeviceSid}/Configs")
            mark = " +" if MARK in operation and not stored else ""
            assert stored or f"| `{call}`{mark} |" in reference, f"rest-api.md lacks {call}{mark}"
            if MARK in operation and path != "/v1/Devices/{DeviceSid}/Updates/{Number}":
                assert f"`{call}`" in divergences, f"divergences.md lacks {call}"
            for name, prop in _form(operation).items():
                row = next((line for line in reference.splitlines() if f"`{call}`" in line), "")
                if "](rollouts.md#" in row:  # whose table of the guard's settings is made from them
                    row += (docs / "reference/rollouts.md").read_text()
                assert stored or f"`{name}`{' +' if MARK in prop and not mark else ''}" in row, f"{call}: {name}"


async def test_every_operation_is_counted_by_the_name_of_its_resource(server, document):
    """docs/reference/metrics.md: a resource that the metrics do not know would be lumped together as v1."""
    resources = server.world.resources
    assert {"Devices", "Rollouts", "Decisions", "EnrollmentTokens"} <= resources
    for path in document["paths"]:
        names = [part for part in path.split("/")[2:] if not part.startswith("{")][:2]
        place = path.replace("{", "").replace("}", "")
        if path.startswith("/v1/") and names[-1] not in {"Promote", "Secondary"}:
            assert route_of(place, resources) == "/".join(["v1", *names])


def _form(operation):
    for media in operation.get("requestBody", {}).get("content", {}).values():
        return media["schema"].get("properties", {})
    return {}
