"""``fleetvisor accounts``: what a person and a program see of each command, and with which exit status it refuses."""

import json
import time

import pytest

from fleetvisor.cli.main import run

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]

NOBODY = "AC" + "0" * 32
FIELDS = {"account_sid", "friendly_name", "status", "device_count", "date_created", "url"}


@pytest.fixture
def as_other(data, monkeypatch):
    """Make the environment name the server and another account than the first."""
    told = json.loads((data / "credentials.json").read_text())

    def become(account):
        monkeypatch.setenv("FLEETVISOR_URL", told["local_url"])
        monkeypatch.setenv("FLEETVISOR_CA_FILE", told["ca_file"])
        monkeypatch.setenv("FLEETVISOR_ACCOUNT_SID", account["account_sid"])
        monkeypatch.setenv("FLEETVISOR_AUTH_TOKEN", account["auth_token"])

    return become


def found(cli, sid):
    return [account for account in cli("accounts list") if account["account_sid"] == sid]


def test_an_account_from_its_making_to_its_end(cli, as_other, capsys):
    [made] = cli("accounts create orchard")
    sid = made["account_sid"]
    assert made["friendly_name"] == "orchard"
    assert len(made["auth_token"]) == 32
    [listed] = found(cli, sid)
    assert "auth_token" not in listed
    assert (listed["status"], listed["device_count"]) == ("active", 0)
    assert set(listed) >= FIELDS
    as_other(made)
    assert run(["devices", "create", "pump", "--json"]) == 0
    assert found(cli, sid)[0]["device_count"] == 1

    assert cli(f"accounts suspend {sid}")[0]["status"] == "suspended"
    assert cli(f"accounts suspend {sid}")[0]["status"] == "suspended"
    capsys.readouterr()
    assert run(["devices", "list", "--json"]) == 4
    assert json.loads(capsys.readouterr().err)["status"] == 401
    assert cli(f"accounts resume {sid}")[0]["status"] == "active"
    assert run(["devices", "list", "--json"]) == 0

    refused = cli(f"accounts end {sid}", status=2)
    assert "--everything" in refused["hint"]
    assert found(cli, sid)[0]["status"] == "active", "without the word nothing happens"
    assert cli(f"accounts end {sid} --everything") == [{"removed": sid}]
    assert run(["devices", "list", "--json"]) == 4
    ends = time.monotonic() + 20
    while found(cli, sid):
        assert time.monotonic() < ends
        time.sleep(0.1)
    types = [event["type"] for event in cli("events --limit 50") if event["subject_sid"] == sid]
    assert types == ["account.ended", "account.ending", "account.resumed", "account.suspended", "account.created"]


@pytest.mark.parametrize("command", ["suspend {}", "resume {}", "end {} --everything"])
def test_an_account_that_is_not_there_is_status_3(cli, command):
    assert cli("accounts " + command.format(NOBODY), status=3)["status"] == 404


@pytest.mark.parametrize("command", ["suspend {}", "end {} --everything"])
def test_the_first_account_is_neither_suspended_nor_ended_which_is_status_5(cli, data, command):
    own = json.loads((data / "credentials.json").read_text())["account_sid"]
    assert cli("accounts " + command.format(own), status=5)["status"] == 409
    assert found(cli, own)[0]["status"] == "active"


@pytest.mark.parametrize(
    "command", ["create x", "list", f"suspend {NOBODY}", f"resume {NOBODY}", f"end {NOBODY} --everything"]
)
def test_another_account_may_do_none_of_it_which_is_status_4(cli, as_other, capsys, command):
    as_other(cli("accounts create stranger")[0])
    capsys.readouterr()
    assert run(["accounts", *command.split(), "--json"]) == 4
    assert json.loads(capsys.readouterr().err)["status"] == 403


@pytest.mark.parametrize(
    "command", ["create", "suspend", "resume", "end", "end --everything", "list extra", "remove x"]
)
def test_a_command_that_lacks_a_word_is_status_2(cli, command):
    assert cli("accounts " + command, status=2)["error"]


@pytest.mark.parametrize("name", ["x" * 65, "a\u0000b"])
def test_a_name_that_may_not_be_is_status_1_and_makes_nothing(cli, name):
    before = cli("accounts list")
    assert cli("accounts create", name, status=1)["status"] == 400
    assert cli("accounts list") == before


@pytest.mark.parametrize("sid", ["", "../Devices", "AC" + "Z" * 32, "a b"])
def test_what_is_no_sid_reaches_nothing_else(cli, sid):
    assert cli("accounts end --everything", sid, status=3)["status"] == 404


def test_for_eyes_the_token_is_on_stdout_and_what_to_do_with_it_on_stderr(cli, eyes):
    told = eyes("accounts create meadow")
    assert "shown only once" in told.err
    assert "auth_token" in told.out
    table = eyes("accounts list").out.splitlines()
    assert table[0].split() == ["NAME", "SID", "STATUS", "DEVICES", "CREATED"]
    [row] = [line for line in table if "meadow" in line]
    sid = row.split()[1]
    assert "suspended" in eyes(f"accounts suspend {sid}").out
    assert f"Removed account {sid}." in eyes(f"accounts end {sid} --everything").err
