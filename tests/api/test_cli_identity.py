"""The command line's part in device identity, against a real server: what lets devices in, and what proves them."""

import time

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from tests.jws import Key

from fleetvisor.client import credentials

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]


@pytest.fixture(scope="module")
def server(data):
    return credentials.find(data)


@pytest.fixture(scope="module")
def board(server):
    """Give a connection as devices have it, without an account's credentials."""
    with httpx.Client(base_url=server.local_url, verify=server.tls()) as http:
        yield http


def poll(board, token):
    return board.get("/device/v1/desired", headers={"Authorization": f"Bearer {token}"}).status_code


def register(board, token, name):
    """Poll over DDI as the device ``name`` of a gateway."""
    headers = {"Authorization": f"GatewayToken {token}"}
    return board.get(f"/DEFAULT/controller/v1/{name}", headers=headers).status_code


def enroll(server, board, token, key):
    body = {"token": token, "public_key": key.public, "proof": key.proof(token, server.base_url, int(time.time()))}
    return board.post("/device/v1/enroll", json=body)


@pytest.fixture
def pem(tmp_path):
    """Give the function that writes a key's public half to a file."""

    def write(key):
        path = tmp_path / "key.pem"
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        path.write_bytes(key.private.public_key().public_bytes(serialization.Encoding.PEM, form))
        return str(path)

    return write


def test_labels_are_given_changed_and_removed(cli):
    assert cli("devices create kiln --label site=graz --label ring=1")[0]["labels"] == {"ring": "1", "site": "graz"}
    changed = cli("devices update kiln --label ring=2 --label site- --label 'owner=a b'")
    assert changed[0]["labels"] == {"owner": "a b", "ring": "2"}
    assert cli("devices update kiln --label ring=3 --label app=x", status=1)["status"] == 400
    assert cli("devices show kiln")[0]["labels"] == changed[0]["labels"]
    both = cli("devices create pump --count 2 --label site=linz")
    assert [device["labels"] for device in both] == [{"site": "linz"}] * 2


def test_an_enrolment_token_from_its_making_to_its_removal(cli, server, board):
    [made] = cli("enrollment create 'line 3' --uses 2 --ttl 10m --hardware-class board-a --label site=graz")
    assert made["token"].startswith("fve_")
    shown = {name: value for name, value in made.items() if name != "token"}
    assert cli("enrollment show", made["sid"]) == [shown]
    assert shown in cli("enrollment list")
    born = enroll(server, board, made["token"], Key())
    assert born.status_code == 201
    [device] = cli("devices show", born.json()["sid"])
    assert (device["labels"], device["hardware_class"]) == ({"site": "graz"}, "board-a")
    [revoked] = cli("enrollment revoke", made["sid"])
    assert (revoked["uses"], revoked["revoked"]) == (1, True)
    assert enroll(server, board, made["token"], Key()).status_code == 403
    assert cli("enrollment remove", made["sid"]) == [{"removed": made["sid"]}]
    assert cli("enrollment show", made["sid"], status=3)["status"] == 404


def test_an_enrolment_token_for_one_device_and_30_days_needs_no_options(cli):
    [made] = cli("enrollment create")
    assert (made["max_uses"], made["labels"], made["hardware_class"]) == (1, {}, None)
    assert cli("enrollment create --ttl 0")[0]["date_expires"] is None
    assert "MaxUses" in cli("enrollment create --uses 0", status=1)["error"]


def test_devices_register_themselves_by_the_gateway_token_and_are_accepted(cli, board):
    cli("devices create bystander")
    assert cli("gateway show")[0]["enabled"] is False
    [enabled] = cli("gateway enable")
    token = enabled.pop("gateway_token")
    assert token.startswith("fvg_")
    for name in ("ddi-1", "ddi-2", "ddi-3"):
        assert register(board, token, name) == 200
    assert cli("gateway show") == [enabled | {"waiting": 3}]
    assert [device["unique_name"] for device in cli("devices list --waiting")] == ["ddi-3", "ddi-2", "ddi-1"]
    assert [device["unique_name"] for device in cli("devices list --waiting --limit 1")] == ["ddi-3"]
    accepted = cli("devices accept ddi-1 ddi-2")
    assert {device["unique_name"]: device["access"] for device in accepted} == {"ddi-1": "active", "ddi-2": "active"}
    assert [device["unique_name"] for device in cli("devices list --waiting")] == ["ddi-3"]
    assert cli("devices accept nobody", status=3)["status"] == 404
    assert cli("gateway disable") == [enabled | {"enabled": False, "waiting": 1, "date_created": None}]
    assert register(board, token, "ddi-1") == 401
    assert cli("gateway disable", status=3)["status"] == 404


def test_a_token_is_replaced_with_an_overlap_and_removed(cli, board):
    [made] = cli("devices create oven")
    [second] = cli("credentials rotate oven --overlap 10m")
    assert [poll(board, each["device_token"]) for each in (made, second)] == [200, 200]
    listed = cli("credentials list oven")
    assert [credential["date_expires"] is None for credential in listed] == [False, True]
    assert "device_token" not in listed[1]
    cli("credentials rotate oven")
    [third] = cli("credentials rotate oven --overlap 0")
    assert [poll(board, each["device_token"]) for each in (made, second, third)] == [401, 401, 200]
    fingerprint = third["fingerprint"]
    assert cli("credentials remove oven", fingerprint) == [{"removed": fingerprint}]
    assert poll(board, third["device_token"]) == 401
    assert cli("credentials remove oven", fingerprint, status=3)["status"] == 404


def test_a_key_is_added_removed_refused_and_freed(cli, server, board, pem):
    key = Key()
    [device] = cli("devices create press")
    [added] = cli("credentials add-key press", pem(key))
    assert (added["type"], added["device_token"]) == ("key", None)
    token = key.jwt(device["sid"], server.base_url, int(time.time()))
    assert poll(board, token) == 200
    cli("credentials remove press", added["fingerprint"])
    assert poll(board, token) == 401
    assert [refused["device_sid"] for refused in cli("credentials refused")] == [device["sid"]]
    cli("credentials add-key press", pem(key), status=5)
    assert cli("credentials free", added["fingerprint"]) == [{"freed": added["fingerprint"]}]
    assert cli("credentials refused") == []
    cli("credentials add-key press", pem(key))


def test_a_private_key_is_not_sent(cli, tmp_path):
    private = Key().private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "private.pem").write_bytes(private)
    told = cli("credentials add-key nobody", str(tmp_path / "private.pem"), status=2)
    assert "private key" in told["error"]


def test_for_eyes_what_is_shown_once_is_on_stdout_and_the_note_about_it_on_stderr(eyes, pem):
    eyes("devices create eyes")
    for line, secret in (
        ("enrollment create", "fve_"),
        ("gateway enable", "fvg_"),
        ("credentials rotate eyes", "fvd_"),
    ):
        out, err = eyes(line)
        assert secret in out
        assert "shown only once" in err
        assert secret not in err
    out, err = eyes("credentials add-key eyes", pem(Key()))
    assert "token" not in out + err


def test_for_eyes_lists_are_tables(eyes, pem):
    eyes("devices create looker")
    eyes("enrollment create batch --uses 7 --label site=graz --label ring=1")
    header, _rule, row = eyes("enrollment list").out.splitlines()[:3]
    assert header.split() == [
        "NAME", "SID", "USES", "ENDS", "REVOKED", "SECRETS", "WAITS", "CLASS", "LABELS",
    ]  # fmt: skip
    assert row.split()[0] == "batch"
    assert "0 of 7" in row
    assert "ring=1 site=graz" in row
    key = Key()
    eyes("credentials add-key looker", pem(key))
    header, _rule, *rows = eyes("credentials list looker").out.splitlines()
    assert header.split() == ["TYPE", "FINGERPRINT", "CREATED", "ENDS"]
    assert [row.split()[0] for row in rows] == ["token", "key"]
    fingerprint = rows[1].split()[1]
    assert eyes("credentials remove looker", fingerprint).err == f"Removed credential {fingerprint}.\n"
    assert fingerprint in eyes("credentials refused").out
    assert eyes("credentials free", fingerprint).err == f"Freed key {fingerprint}.\n"
    assert eyes("devices accept looker").err == "Accepted device looker.\n"
