"""protocol/bundle.proto: the generated module is what the compiler makes of it today."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from fleetvisor.protocol import bundle_pb2

SOURCE = Path(__file__).resolve().parents[3] / "src"
PROTO = "fleetvisor/protocol/bundle.proto"


def test_the_generated_module_is_that_of_the_proto_file(tmp_path):
    """A change of the .proto without the command at its head would leave two truths."""
    pytest.importorskip("grpc_tools", reason="the protobuf compiler (grpcio-tools) is not installed")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", SOURCE, f"--python_out={tmp_path}"]
    subprocess.run([*command, f"--pyi_out={tmp_path}", PROTO], check=True)
    for name in ("bundle_pb2.py", "bundle_pb2.pyi"):
        made = tmp_path / "fleetvisor/protocol" / name
        assert made.read_text() == (SOURCE / "fleetvisor/protocol" / name).read_text(), f"generate {name} anew"


def test_the_published_table_of_fields_is_that_of_the_proto_file():
    """docs/reference/bundle-format.md gives every field of an app's manifest at its number."""
    page = (SOURCE.parent / "docs/reference/bundle-format.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\w+) \| ([\w, ]+) \|$", page, re.MULTILINE)
    documented = {(message, int(number), field, kind.split(",")[0]) for message, number, field, kind in rows}
    other = ("AppManifest", "NewKeys", "HpkeCiphertext")
    messages = [message for name, message in bundle_pb2.DESCRIPTOR.message_types_by_name.items() if name not in other]
    messages.append(bundle_pb2.AppManifest.AppBody.DESCRIPTOR)
    kinds = {
        kind: name.removeprefix("TYPE_").lower()
        for name, kind in vars(FieldDescriptor).items()
        if name.startswith("TYPE_")
    }
    assert documented == {
        (message.name, field.number, field.name, field.message_type.name if field.message_type else kinds[field.type])
        for message in messages
        for field in message.fields
    }
