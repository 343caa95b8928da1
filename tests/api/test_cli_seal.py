"""``fleetvisor seal rotate``: a new key seals everything, and the older one is needed no more."""

import json

import httpx
import pytest

from fleetvisor.cli.main import run
from fleetvisor.cli.output import Output
from fleetvisor.cli.spawn import serving

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("FLEETVISOR_URL", "FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN", "FLEETVISOR_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def call(data, capsys, *words, status=0):
    capsys.readouterr()
    assert run([*words, "--data", str(data), "--json"]) == status, capsys.readouterr().err
    out, err = capsys.readouterr()
    return json.loads(err if status else out or "null")


def fetch(server, token):
    """Ask for the secret as its device does."""
    answer = httpx.post(
        f"{server.local_url}/device/v1/configs/fetch",
        headers={"Authorization": f"Bearer {token}"},
        json={"items": [{"scope": "account", "store": "secret", "key": "pin"}]},
        verify=server.tls(),
    )
    return answer.json()["items"][0]["value"]


def test_after_a_rotation_the_older_key_can_be_taken_away(tmp_path, capsys):
    data = tmp_path / "data"
    (tmp_path / "pin").write_text("hunter2")
    with serving(data, Output(quiet=True)) as server:
        device = call(data, capsys, "devices", "create", "kiln")
        call(data, capsys, "secrets", "set", "pin", "--file", str(tmp_path / "pin"))
        assert fetch(server, device["device_token"]) == "hunter2"
        refused = call(data, capsys, "seal", "rotate", status=5)
        assert "stop it" in refused["error"]
        assert len(list((data / "keys").iterdir())) == 1
    before = json.loads((data / "credentials.json").read_text())["auth_token"]

    done = call(data, capsys, "seal", "rotate")
    assert done["key_file"] == str(data / "keys/seal-2.key")
    assert done["retired_files"] == [str(data / "keys/seal-1.key")]
    assert done["resealed"] == 2  # the secret, and the account's Auth Token

    (data / "keys/seal-1.key").unlink()
    with serving(data, Output(quiet=True)) as server:
        assert server.auth_token == before
        assert fetch(server, device["device_token"]) == "hunter2"


def test_the_nodes_of_a_cluster_go_on_while_their_key_is_rotated(tmp_path, capsys, postgres_cluster, monkeypatch):
    data, url = tmp_path / "data", postgres_cluster.url()
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    old.write_bytes(b"\1" * 32)
    new.write_bytes(b"\2" * 32)
    (tmp_path / "pin").write_text("hunter2")
    shared = ("--database", url, "--blobs", str(tmp_path / "blobs"))
    with serving(data, Output(quiet=True), *shared, "--seal-key-file", str(old)):
        device = call(data, capsys, "devices", "create", "kiln")
        call(data, capsys, "secrets", "set", "pin", "--file", str(tmp_path / "pin"))
    both = ("--seal-key-file", str(new), "--seal-key-file", str(old))
    with serving(data, Output(quiet=True), *shared, *both) as server:
        monkeypatch.setenv("FLEETVISOR_SERVE_DATABASE", url)  # a password in it is then in no list of processes
        done = call(data, capsys, "seal", "rotate", *both)
        assert done["resealed"] == 3  # the secret, the Auth Token, and the nodes' CA
        assert fetch(server, device["device_token"]) == "hunter2"
    with serving(data, Output(quiet=True), *shared, "--seal-key-file", str(new)) as server:
        assert fetch(server, device["device_token"]) == "hunter2"


def test_a_rotation_of_no_data_directory_is_status_3(tmp_path, capsys):
    call(tmp_path, capsys, "seal", "rotate", status=3)
    assert list(tmp_path.iterdir()) == []


def test_a_rotation_needs_a_directory_or_a_database(capsys):
    assert run(["seal", "rotate"]) == 2
    assert run(["seal", "rotate", "--database", "postgresql://x"]) == 2
