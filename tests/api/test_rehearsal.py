"""``simulate`` with bad apps, as a person who rehearses a rollout calls it."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetvisor.cli.main import run

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]
FIRMWARE = Path(__file__).parents[2] / "examples/firmware"


@contextmanager
def simulated(data, file, *options):
    """Be the devices of ``file`` until the block ends."""
    program = [sys.executable, "-m", "fleetvisor.cli.main", "simulate", "--devices", str(file), "--data", str(data)]
    swarm = subprocess.Popen([*program, *options], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        swarm.send_signal(signal.SIGINT)
        assert swarm.wait(10) == 130


def test_the_named_app_fails_on_all_and_going_back_helps(cli, data, tmp_path, capsys):
    for number in (1, 2):
        bundle = tmp_path / f"v{number}.zip"
        assert run(["apps", "bundle", str(FIRMWARE / f"blinker-v{number}.elf"), str(bundle), "--quiet"]) == 0
        cli("apps create", str(bundle), f"v{number}")
    capsys.readouterr()
    assert run(["devices", "create", "bad", "--count", "3", "--json", "--data", str(data)]) == 0
    (tmp_path / "bad").write_text(capsys.readouterr().out)
    names = "bad-1 bad-2 bad-3"
    with simulated(data, tmp_path / "bad", "--fail-rate", "100%", "--fail-app", "v2", "--seed", "5"):
        cli(f"deploy v1 {names} --wait --timeout 30")
        capsys.readouterr()
        assert run(["deploy", "v2", *names.split(), "--wait", "--timeout", "30", "--data", str(data), "--json"]) == 1
        for name in names.split():
            [device] = cli(f"devices show {name}")
            assert device["app"]["update_error_code"] == 7
        cli(f"deploy v1 {names} --wait --timeout 30")
    with simulated(data, tmp_path / "bad", "--fail-rate", "1", "--fail-app", "v1"):
        cli(f"deploy v2 {names} --wait --timeout 30")


@pytest.mark.parametrize(("option", "state", "reason"), [("silent", "silent", ""), ("revert", "failed", "reverted")])
def test_a_rollout_counts_devices_that_fall_silent_and_those_that_revert(
    cli, data, tmp_path, capsys, option, state, reason
):
    good, bad = f"good-{option}", f"bad-{option}"
    for number, name in ((1, good), (2, bad)):
        bundle = tmp_path / f"{name}.zip"
        assert run(["apps", "bundle", str(FIRMWARE / f"blinker-v{number}.elf"), str(bundle), "--quiet"]) == 0
        cli("apps create", str(bundle), name)
    capsys.readouterr()
    label = f"fleet={option}"
    assert run(["devices", "create", option, "--count", "3", "--label", label, "--json", "--data", str(data)]) == 0
    (tmp_path / "ill").write_text(capsys.readouterr().out)
    with simulated(data, tmp_path / "ill", f"--{option}-rate", "100%", "--revert-after", "1", "--fail-app", bad):
        cli(f"deploy {good} -l {label} --wait --timeout 30")
        guard = "--soak 5s --silent-after 3s --limit 20% --min-sample 3"
        [made] = cli(f"rollouts create {bad} -l {label} --waves 100% {guard} --start")
        deadline = time.monotonic() + 30
        while (shown := cli(f"rollouts show {made['sid']}")[0])["date_ended"] is None:
            assert time.monotonic() < deadline, json.dumps(shown)
            time.sleep(0.5)
    assert (shown["state"], shown["counts"][state]) == ("stopped", 3)
    rows = cli(f"rollouts devices {made['sid']} --state {state}")
    assert {row["reason"] for row in rows} == {reason}
    assert len(cli(f"rollouts devices {made['sid']} -l {label}")) == 3
    assert cli(f"rollouts devices {made['sid']} -l fleet=elsewhere") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--fail-rate 25", "no share"),
        ("--fail-rate -0.1", "no share"),
        ("--fail-rate nan", "no share"),
        ("--silent-rate x%", "no share"),
        ("--fail-rate 60% --revert-rate 0.5", "together at most 1"),
        ("--fail-app v1", "--fail-rate"),
    ],
)
def test_rates_that_cannot_be(cli, line, says):
    before = len(cli("devices list"))
    assert says in cli(f"simulate --count 1 --duration 0 {line}", status=2)["error"]
    assert len(cli("devices list")) == before


def test_an_app_that_is_not_there_is_told_before_a_device_is_registered(cli):
    before = json.dumps(cli("devices list"))
    assert cli("simulate --count 1 --fail-rate 1 --fail-app nowhere", status=3)["code"] == 20404
    assert json.dumps(cli("devices list")) == before
