"""The command line against a real server: what a user types, sees, and gets as exit status."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetvisor.cli.main import run

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]

FIRMWARE = Path(__file__).parents[2] / "examples/firmware"
PROGRAM = [sys.executable, "-m", "fleetvisor.cli.main"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    made = [folder / f"v{number}.zip" for number in (1, 2)]
    for number, bundle in enumerate(made, 1):
        assert run(["apps", "bundle", str(FIRMWARE / f"blinker-v{number}.elf"), str(bundle), "--quiet"]) == 0
    return made


@pytest.fixture
def as_somebody(monkeypatch, data):
    """Give the function that puts another account's or key's credentials into the environment."""
    known = json.loads((data / "credentials.json").read_text())

    def put(sid, token):
        monkeypatch.setenv("FLEETVISOR_URL", known["base_url"])
        monkeypatch.setenv("FLEETVISOR_CA_FILE", known["ca_file"])
        monkeypatch.setenv("FLEETVISOR_ACCOUNT_SID", sid)
        monkeypatch.setenv("FLEETVISOR_AUTH_TOKEN", token)

    return put


def test_a_device_from_its_registration_to_its_removal(cli):
    [made] = cli("devices create kiln")
    assert made["device_token"].startswith("fvd_")
    [shown] = cli("devices show kiln")
    assert shown == {name: value for name, value in made.items() if name != "device_token"}
    [changed] = cli("devices update kiln --name oven --logging")
    assert changed["unique_name"] == "oven"
    assert changed["logging"]["enabled"]
    [changed] = cli("devices update", made["sid"], "--name", "", "--no-logging", "--restart")
    assert changed["unique_name"] is None
    assert not changed["logging"]["enabled"]
    assert cli("devices remove", made["sid"]) == [{"removed": made["sid"]}]
    assert cli("devices show", made["sid"], status=3)["code"] == 20404


def test_a_device_keeps_the_sid_that_its_board_has(cli):
    sid = "UV" + "5f" * 16
    assert cli("devices create --sid", sid)[0]["sid"] == sid
    assert cli("devices create --sid", sid, status=5)["status"] == 409


def test_a_name_with_a_count_is_numbered_even_for_one(cli):
    assert [device["unique_name"] for device in cli("devices create pump --count 3")] == ["pump-1", "pump-2", "pump-3"]
    assert [device["unique_name"] for device in cli("devices create fan --count 1")] == ["fan-1"]


def test_a_registration_that_fails_half_way_shows_what_was_made(data, cli, capsys):
    cli("devices create valve-3")
    assert run(["devices", "create", "valve", "--count", "5", "--json", "--data", str(data)]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["unique_name"] for line in out.splitlines()] == ["valve-1", "valve-2"]
    assert json.loads(err)["error"].startswith("2 of 5 devices were registered")


def test_a_list_goes_over_all_its_pages(cli):
    cli("devices create many --count 210")
    found = [device["unique_name"] for device in cli("devices list")]
    assert len([name for name in found if name and name.startswith("many-")]) == 210
    assert len(set(found)) >= 210
    assert [device["unique_name"] for device in cli("devices list --limit 2")] == ["many-210", "many-209"]


def test_a_table_has_one_line_a_device_and_its_errors_are_text(data, cli, capsys):
    cli("devices create table-1")
    assert run(["--data", str(data), "devices", "list", "--limit", "1"]) == 0
    header, _rule, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "SID", "STATUS", "TARGET", "REPORTED", "LAST", "SEEN"]
    assert row.split()[0] == "table-1"
    assert run(["devices", "show", "nobody", "--data", str(data)]) == 3
    assert capsys.readouterr().err.startswith("Error: ")


def test_an_app_from_its_bundle_to_its_removal(cli, bundles):
    [made] = cli("apps create", str(bundles[0]), "app-1")
    assert cli("apps show app-1") == [made]
    assert made in cli("apps list")
    assert cli("apps create", str(bundles[0]), "app-1", status=5)["code"] == 20409
    cli("devices create holder")
    cli("deploy app-1 holder")
    assert cli("apps remove app-1", status=5)["code"] == 20409
    cli("devices update holder --target ''")
    assert cli("apps remove app-1") == [{"removed": "app-1"}]
    assert cli("apps show app-1", status=3)["status"] == 404


def test_a_bundle_that_breaks_a_rule_is_refused_with_the_rule(cli, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    assert "zip" in cli("apps create", str(tmp_path / "x.zip"), status=1)["error"]


@pytest.mark.parametrize("device", [None, "with-configs"])
def test_configs_are_set_shown_listed_and_removed(device, cli, tmp_path, capsys, data):
    of = ["--device", device] if device else []
    if device:
        cli("devices create", device)
    assert cli("configs set app.json", "1", *of)[0]["value"] == "1"
    assert cli("configs set app.json", "2", *of)[0]["value"] == "2"
    (tmp_path / "value").write_text("three\n")
    assert cli("configs set b", "--file", str(tmp_path / "value"), *of)[0]["value"] == "three\n"
    cli("configs set c", "\x1b[31mred", *of)
    assert [entry["key"] for entry in cli("configs list", *of)] == ["app.json", "b", "c"]
    assert run(["configs", "list", *of, "--data", str(data)]) == 0
    assert "\\x1b[31mred" in capsys.readouterr().out
    assert cli("configs show app.json", *of)[0]["value"] == "2"
    cli("configs remove app.json b c", *of)
    assert cli("configs list", *of) == []
    assert cli("configs show app.json", *of, status=3)["status"] == 404


def test_a_secret_is_read_from_stdin_or_a_file_and_its_value_is_in_no_output(data, tmp_path):
    (tmp_path / "value").write_text("hunter2")

    def call(*words, stdin=""):
        done = subprocess.run(
            [*PROGRAM, "secrets", *words, "--data", str(data)], input=stdin, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        return done.stdout

    call("set", "pin", "-", stdin="hunter2\n")
    call("set", "pin", "--file", str(tmp_path / "value"))
    assert "date_rotated" in call("show", "pin", "--json")
    assert "pin" in call("list")
    call("remove", "pin")
    asked = subprocess.run(
        [*PROGRAM, "secrets", "set", "pin", "--data", str(data)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert asked.returncode == 2
    assert "--file" in asked.stderr


def test_the_line_end_that_echo_adds_is_not_part_of_a_value_from_stdin(cli, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b"value\n")

    monkeypatch.setattr(sys, "stdin", Stdin)  # the terminal's own
    assert cli("configs set from-stdin --file -")[0]["value"] == "value"


def test_an_api_key_opens_its_account_until_it_is_removed(cli, as_somebody, capsys):
    [key] = cli("keys create ci --role admin")
    assert "secret" not in cli("keys list")[0]
    as_somebody(key["sid"], key["secret"])
    assert run(["devices", "list", "--limit", "1"]) == 0
    cli("keys remove", key["sid"])
    capsys.readouterr()
    assert run(["devices", "list", "--json"]) == 4
    assert json.loads(capsys.readouterr().err)["code"] == 20003


def test_another_account_sees_only_its_own_things(cli, as_somebody, capsys):
    cli("devices create private")
    [account] = cli("accounts create neighbours")
    as_somebody(account["account_sid"], account["auth_token"])
    capsys.readouterr()
    assert run(["devices", "list", "--json"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["devices", "show", "private"]) == 3
    assert run(["accounts", "create", "more"]) == 4


def test_a_certificate_that_is_not_trusted_is_status_7(as_somebody, monkeypatch, capsys):
    as_somebody("AC" + "0" * 32, "x")
    monkeypatch.delenv("FLEETVISOR_CA_FILE")
    assert run(["devices", "list"]) == 7
    assert "not trusted" in capsys.readouterr().err


def test_env_gives_a_shell_what_other_programs_need(data):
    program = shlex.join(PROGRAM)
    script = (
        f'eval "$({program} env --data {shlex.quote(str(data))})" && {program} devices list --limit 1 --json && env'
    )
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    known = json.loads((data / "credentials.json").read_text())
    for name, field in {
        "FLEETVISOR_URL": "base_url",
        "TWILIO_ACCOUNT_SID": "account_sid",
        "TWILIO_AUTH_TOKEN": "auth_token",
        "REQUESTS_CA_BUNDLE": "ca_file",
        "NODE_EXTRA_CA_CERTS": "ca_file",
    }.items():
        assert f"{name}={known[field]}\n" in done.stdout


def test_the_doctor_finds_a_new_server_well(cli):
    found = {check["check"]: check["verdict"] for check in cli("doctor")}
    assert set(found) == {
        "lock", "modes", "owner", "sealing keys", "CA", "disk", "descriptors", "public name", "certificate", "health",
        "clock", "credentials", "database", "firmware", "names",
    }  # fmt: skip
    assert "fail" not in found.values()


def test_the_doctor_fails_with_status_1_and_says_what_to_do(data, capsys):
    credentials = data / "credentials.json"
    credentials.chmod(0o644)
    try:
        assert run(["doctor", "--data", str(data)]) == 1
    finally:
        credentials.chmod(0o600)
    assert f"chmod go= {credentials}" in capsys.readouterr().err


def test_a_deployment_is_waited_for_until_a_real_agent_runs_the_app(cli, data, bundles, tmp_path):
    [device] = cli("devices create board")
    (tmp_path / "token").write_text(device["device_token"])
    known = json.loads((data / "credentials.json").read_text())
    for number, bundle in enumerate(bundles, 1):
        cli("apps create", str(bundle), f"board-app-{number}")
    agent = subprocess.Popen(
        [
            *PROGRAM, "agent", "run", "--url", known["local_url"], "--ca-file", known["ca_file"], "--sid",
            device["sid"], "--token-file", str(tmp_path / "token"), "--state", str(tmp_path / "flash"),
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        for number in (1, 2):
            [done] = cli(f"deploy board-app-{number} board --wait --timeout 30")
            assert done["app"]["update_status"] == "up-to-date"
            assert done["app"]["reported_sid"] == done["app"]["target_sid"]
    finally:
        agent.send_signal(signal.SIGINT)
        _, told = agent.communicate(timeout=10)
    assert agent.returncode == 130
    assert device["device_token"].encode() not in told


def test_a_deployment_that_is_not_taken_in_time_is_status_1(cli, bundles):
    cli("devices create sleeper")
    cli("apps create", str(bundles[0]), "sleeper-app")
    assert "did not run sleeper-app in time" in cli("deploy sleeper-app sleeper --wait --timeout 1", status=1)["error"]


def test_a_deployment_to_a_device_that_is_not_there_is_status_3(cli, bundles):
    cli("apps create", str(bundles[0]), "nowhere-app")
    assert cli("deploy nowhere-app nobody", status=3)["status"] == 404
    assert cli("deploy no-app nobody", status=3)["status"] == 404


def test_ctrl_c_ends_a_wait_with_status_130(cli, data, bundles):
    cli("devices create patient")
    cli("apps create", str(bundles[0]), "patient-app")
    waiting = subprocess.Popen(
        [*PROGRAM, "deploy", "patient-app", "patient", "--wait", "--data", str(data)], stderr=subprocess.PIPE, text=True
    )
    assert "patient: pending" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, told = waiting.communicate(timeout=10)
    assert waiting.returncode == 130
    assert "Traceback" not in told


def test_a_reader_that_goes_away_ends_a_list_quietly(cli, data):
    cli("devices create flood --count 250")
    script = f"{shlex.join(PROGRAM)} devices list --json --data {shlex.quote(str(data))} | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_swarm_registers_lives_and_is_removed(cli, data):
    before = len(cli("devices list"))
    changes = cli("simulate --count 3 --name swarm --duration 3 --remove")
    assert len({change["sid"] for change in changes}) == 3
    assert len(cli("devices list")) == before


def test_a_swarm_that_is_terminated_removes_its_devices_too(cli, data):
    """As by timeout(1), or a CI job that is canceled."""
    before = len(cli("devices list"))
    line = [*PROGRAM, "simulate", "--count", "3", "--remove", "--data", str(data)]
    swarm = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert swarm.stderr is not None
    assert any("3 idle" in told for told in swarm.stderr)
    assert len(cli("devices list")) == before + 3
    swarm.terminate()
    assert swarm.wait(10) == 130
    swarm.stderr.close()
    assert len(cli("devices list")) == before


def test_a_reader_that_goes_away_ends_a_swarm_quietly(cli, data):
    before = len(cli("devices list"))
    swarm = f"{shlex.join(PROGRAM)} simulate --count 2 --duration 20 --remove --json --data {shlex.quote(str(data))}"
    done = subprocess.run(["bash", "-c", f"{swarm} | head -n 1"], capture_output=True, text=True, timeout=15)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
    assert len(cli("devices list")) == before


def test_a_swarm_of_registered_devices_takes_a_deployment(cli, data, bundles, tmp_path, capsys):
    cli("apps create", str(bundles[0]), "herd-app")
    capsys.readouterr()
    assert run(["devices", "create", "herd", "--count", "2", "--json", "--data", str(data)]) == 0
    (tmp_path / "herd").write_text(capsys.readouterr().out)
    herd = subprocess.Popen(
        [*PROGRAM, "simulate", "--devices", str(tmp_path / "herd"), "--data", str(data)], stderr=subprocess.DEVNULL
    )
    try:
        done = cli("deploy herd-app herd-1 herd-2 --wait --timeout 30")
        assert {device["app"]["update_status"] for device in done} == {"up-to-date"}
    finally:
        herd.send_signal(signal.SIGINT)
        assert herd.wait(10) == 130


@pytest.mark.slow
def test_the_demo_ends_well_within_a_minute():
    began = time.monotonic()
    done = subprocess.run(
        [*PROGRAM, "demo", "--exit", "--firmware", str(FIRMWARE), "--json"], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["devices"].values()) == {told["app"]}
    assert len(told["devices"]) == 10
    assert not Path(told["data"]).exists()
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_demo_that_ends_by_itself_names_no_server_to_call():
    done = subprocess.run(
        [*PROGRAM, "demo", "--exit", "--firmware", str(FIRMWARE)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Without --exit the demo keeps its server" in done.stdout
    assert "curl" not in done.stdout


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("offer-again", "Offered its target to {} again."),
        ("forget-report", "Forgot what {} reports."),
        ("request-attributes", "{} is asked for its attributes."),
        ("begin-anew", "The next report of {} is taken."),
    ],
)
def test_what_is_asked_of_a_device_once_is_asked_of_each_and_said(cli, eyes, bundles, verb, said):
    names = [f"once-{verb}-{number}" for number in range(2)]
    for name in names:
        cli(f"devices create {name}")
    if verb == "offer-again":
        cli("apps create", str(bundles[1]), "once-app")
        cli(f"deploy once-app {' '.join(names)}")
    assert [row["unique_name"] for row in cli(f"devices {verb} {' '.join(names)}")] == names
    assert eyes(f"devices {verb} {names[0]}").err == said.format(names[0]) + "\n"
    assert cli(f"devices {verb} nobody", status=3)["status"] == 404
