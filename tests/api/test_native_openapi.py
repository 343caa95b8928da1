"""The device API's own OpenAPI document."""

import json

import pytest
from tests.native_world import BASE, Worlds

from fleetvisor.protocol.native import Desired, Report


@pytest.fixture
async def document(tmp_path):
    worlds = Worlds(tmp_path)
    world = worlds.make()
    device = await worlds.device(world)
    answer = await device.get("openapi.json", token="")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert (await device.head("openapi.json", token="")).body == b""
    return answer.json


async def test_it_needs_no_credentials_and_names_the_server(document):
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": BASE}]


async def test_it_has_every_call_and_only_those(document):
    calls = {(method, path) for path, item in document["paths"].items() for method in item}
    base = "/device/v1"
    assert calls == {
        *((method, f"{base}/{path}") for method in ("get", "head")
          for path in ("desired", "layers/{sha256}", "manifests/{sha256}")),
        ("post", f"{base}/report"),
        ("post", f"{base}/configs/fetch"),
        ("post", f"{base}/enroll"),
        ("get", f"{base}/openapi.json"),
    }  # fmt: skip


async def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(schemas)


@pytest.mark.parametrize("struct", [Desired, Report])
async def test_its_schemas_are_the_wire_structs(document, struct):
    schema = document["components"]["schemas"][struct.__name__]
    assert list(schema["properties"]) == list(struct.__struct_fields__)


async def test_operation_ids_are_unique(document):
    ids = [call["operationId"] for item in document["paths"].values() for call in item.values()]
    assert len(ids) == len(set(ids))
