"""The command line's part in running a fleet: a factory's file, events, roles of keys, and a new Auth Token."""

import hashlib
import json
import stat
import threading
import time

import pytest

from fleetvisor.cli.main import run
from fleetvisor.client import credentials
from fleetvisor.client.http import Http
from fleetvisor.client.resources import Client

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]


@pytest.fixture
def batch(tmp_path):
    def write(*rows):
        path = tmp_path / "batch.csv"
        path.write_text("name,token_hash,labels\n" + "".join(f"{row}\n" for row in rows))
        return str(path)

    return write


def hashed(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_factorys_file_is_imported_and_its_faults_are_told(cli, eyes, batch):
    made = cli("devices import", batch(*(f"valve-{number},{hashed(str(number))},site=graz" for number in range(3))))
    assert [(row["line"], row["unique_name"]) for row in made] == [(2, "valve-0"), (3, "valve-1"), (4, "valve-2")]
    assert cli("devices show valve-1")[0]["labels"] == {"site": "graz"}
    assert (
        "line 3, column name"
        in cli("devices import", batch(f"new,{hashed('n')},", f"a/b,{hashed('x')},"), status=1)["error"]
    )
    assert cli("devices import", batch(f"valve-1,{hashed('y')},"), status=5)["status"] == 409
    assert cli("devices import no-such-file.csv", status=1)
    assert "Registered 1 devices" in eyes("devices import", batch(f"last,{hashed('z')},")).err


def test_events_are_listed_for_eyes_and_machines(cli, eyes):
    cli("devices create seen --label site=graz")
    (event, *_) = cli("events --device seen --type device.created")
    assert event["data"]["unique_name"] == "seen"
    assert event["address"] == "127.0.0.1"
    table = eyes("events --limit 3 --since 2020-01-01").out
    assert "device.created" in table
    assert table.splitlines()[0].split() == ["TIME", "TYPE", "OF", "BY", "FROM", "DATA"]
    assert cli("events --type no.such") == []
    assert "lists the types" in eyes("events --type no.such").err
    assert eyes("events --type device.created").err == ""
    assert cli("events --since yesterday", status=1)["status"] == 400


def test_a_key_has_its_role_and_end(cli, eyes, monkeypatch, capsys):
    [key] = cli("keys create watcher --role viewer --ttl 1h")
    assert (key["role"], key["date_last_used"]) == ("viewer", None)
    assert key["date_expires"] > key["date_created"]
    assert "10m" in cli("keys create other --role viewer --ttl soon", status=2)["hint"]
    assert "viewer" in eyes("keys list").out
    [shown] = cli("env")
    for name, value in {**shown, "FLEETVISOR_ACCOUNT_SID": key["sid"], "FLEETVISOR_AUTH_TOKEN": key["secret"]}.items():
        monkeypatch.setenv(name, value)
    assert run(["devices", "list", "--quiet"]) == 0
    assert run(["devices", "create", "x", "--json"]) == 4
    told = json.loads(capsys.readouterr().err)
    assert "operator" in told["error"]
    assert "with the role" in told["hint"]


def test_an_auth_token_is_replaced_and_the_file_follows(cli, data):
    path = data / "credentials.json"
    before = json.loads(path.read_text())["auth_token"]
    [second] = cli("auth-token create")
    assert cli("auth-token create", status=5)
    assert json.loads(path.read_text())["auth_token"] == before
    [promoted] = cli("auth-token promote")
    assert promoted["auth_token"] == second["secondary_auth_token"] != before
    end = time.monotonic() + 1
    while json.loads(path.read_text())["auth_token"] == before:
        assert time.monotonic() < end, "credentials.json did not follow within a second"
        time.sleep(0.02)
    assert json.loads(path.read_text())["auth_token"] == promoted["auth_token"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cli("devices list")
    cli("auth-token create")
    cli("auth-token remove")
    assert cli("auth-token remove", status=3)


def test_a_selector_lists_counts_labels_and_deploys(cli, eyes, batch, tmp_path):
    from tests.bundles import simple_bundle

    cli("devices import", batch(*(f"pump-{number},{hashed(f'p{number}')},line=3" for number in range(5))))
    assert len(cli("devices list -l line=3")) == 5
    assert cli("devices list -l 'line=3,name~pump-[0]'") == []
    assert "at character 6" in cli("devices list -l line==3", status=1)["error"]
    assert cli("devices label ring=1 -l 'name in (pump-0,pump-1)' --device pump-2") == [{"changed": 3, "unchanged": 0}]
    assert cli("devices label ring=1 -l line=3") == [{"changed": 2, "unchanged": 3}]
    cli("devices label ring- -l name=pump-4")
    [counts] = cli("devices count -l line=3 --by ring")
    assert counts["groups"] == [{"value": "1", "count": 4}, {"value": None, "count": 1}]
    assert "in all" in eyes("devices count --by status").out
    assert cli("devices count -l line=3")[0]["total"] == 5
    assert cli("devices label ring=1", status=2)
    path = tmp_path / "app.zip"
    path.write_bytes(simple_bundle(b"firmware of pumps"))
    cli("apps create", str(path), "pump-app")
    assert len(cli("deploy pump-app -l line=3,ring=1")) == 4
    assert len(cli("devices list -l target=pump-app")) == 4
    assert "counter" not in eyes("deploy pump-app pump-4 -l line=3").err
    assert len(cli("devices list -l target=pump-app,status=pending")) == 5
    assert cli("deploy pump-app", status=2)


def test_a_slip_in_a_label_changes_nothing_and_lists_warn(cli, eyes, batch, tmp_path):
    from tests.bundles import simple_bundle

    rows = (f"slip-{number},{hashed(f'slip-{number}')},slip={number % 2}" for number in range(4))
    cli("devices import", batch(*rows))
    path = tmp_path / "app.zip"
    path.write_bytes(simple_bundle(b"firmware of slips"))
    cli("apps create", str(path), "slip-app")
    for line in ("deploy slip-app slip-0 -l '!slyp'", "devices label new=slip -l 'slip=1,!slyp' --device slip-0"):
        told = cli(line, status=2)["error"]
        assert "did you mean 'slip'?" in told
        assert "label.slyp" in told
    assert cli("devices count -l target=slip-app")[0]["total"] == 0
    assert cli("devices count -l new=slip")[0]["total"] == 0
    assert cli("deploy slip-app -l 'slip=1,!label.slyp'")[0]["app"]["target_sid"]
    for line in ("devices list -l '!slyp'", "devices count -l '!slyp'"):
        assert "did you mean 'slip'?" in eyes(line).err
    assert "did you mean" not in eyes("devices list -l 'slip=1'").err


def test_a_device_in_the_way_keeps_no_other_from_what_a_selector_is_given(cli, eyes, batch, tmp_path):
    rows = (f"fan-{number},{hashed(f'f{number}')},line=4" for number in range(5))
    cli("devices import", batch(*rows))
    for number in range(5):
        cli(f"devices update fan-{number} --hardware-class", "other" if number == 3 else "fan")
    path = tmp_path / "fan.bin"
    path.write_bytes(b"firmware of fans")
    cli("apps create", str(path), "fan-app", "--kind", "raw", "--hardware-class", "fan")
    for _ in range(2):
        told = cli("deploy fan-app -l line=4", status=1)["error"]
        assert told.startswith("1 of 5 devices were not given fan-app: fan-3: The App is for")
        assert cli("devices count -l target=fan-app")[0]["total"] == 4
    full = [part for number in range(32) for part in ("--label", f"k{number}=1")]
    cli("devices update fan-2 --label line-", *full)
    assert "fan-2: A Device has 32 labels" in cli("devices label new=1 -l hardware=fan", status=1)["error"]
    assert cli("devices count -l new=1")[0]["total"] == 3
    for wrong in ("ring", "app=1", "a b=1", "=1"):
        assert cli("devices label -l hardware=fan", wrong, status=2)["error"].startswith("Labels: ")
    for blank in ("", " "):
        assert cli("deploy fan-app -l", blank, status=2)
        assert cli("devices label new=2 -l", blank, status=2)
    assert "No device is selected by" in eyes("deploy fan-app -l line=none").err
    assert "No device is selected by" in eyes("devices label new=2 -l line=none").err


def test_a_device_removed_while_a_deployment_is_waited_for_ends_it_for_no_other(cli, data, tmp_path):
    cli("devices create lost-1")
    cli("devices create lost-2 --label lost=yes")
    path = tmp_path / "lost.bin"
    path.write_bytes(b"firmware of the lost")
    cli("apps create", str(path), "lost-app", "--kind", "raw")

    def leave():
        with Http(credentials.find(data)) as http:
            Client(http).remove_device("lost-1")

    remove = threading.Timer(1.0, leave)
    remove.start()
    told = cli("deploy lost-app lost-1 -l lost=yes --wait --timeout 3", status=1)["error"]
    remove.join()
    assert told == "1 of 2 devices do not run lost-app; lost-1: was removed."


def test_a_device_is_explained_and_its_penalties_are_shown_and_lifted(cli, eyes):
    cli("devices create puzzling")
    codes = [reason["code"] for reason in cli("devices explain puzzling")[0]["reasons"]]
    assert codes == ["never_reported", "no_target", "never_seen"]
    assert "The device has never connected." in eyes("devices explain puzzling").out
    assert cli("devices updates puzzling") == []
    cli("deploy fan-app puzzling")
    (update,) = cli("devices updates puzzling --limit 5")
    assert update["number"] > 1
    assert (update["state"], update["rollout_sid"]) == ("pending", None)
    assert "fan-app" in eyes("devices updates puzzling").out
    assert cli("devices updates nobody", status=3)["hint"]
    assert cli("devices penalties puzzling")[0]["penalties"] == []
    assert cli("devices penalties puzzling --lift none", status=3)
    assert cli("devices explain nobody", status=3)["hint"]
