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


def test_a_rotation_of_no_data_directory_is_status_3(tmp_path, capsys):
    call(tmp_path, capsys, "seal", "rotate", status=3)
    assert list(tmp_path.iterdir()) == []


def test_a_rotation_needs_a_directory_or_a_database(capsys):
    assert run(["seal", "rotate"]) == 2
    assert run(["seal", "rotate", "--database", "postgresql://x"]) == 2
