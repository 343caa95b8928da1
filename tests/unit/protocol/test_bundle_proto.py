"""protocol/bundle.proto: the generated module is what the compiler makes of it today."""

import subprocess
import sys
from pathlib import Path

import pytest

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
