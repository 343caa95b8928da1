"""The command line of rollouts against a real server, with devices in a test's hand."""

import os
import pty
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from tests.bundles import simple_bundle

from fleetvisor.cli.main import run
from fleetvisor.cli.simulate import swarm_url
from fleetvisor.client import credentials

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]
QUICK = "--soak 0s --min-sample 1"


class Board:
    """One device: what it runs, and the journal of its reports."""

    def __init__(self, http, sid, token):
        self.http, self.sid = http, sid
        self.headers = {"authorization": f"Bearer {token}"}
        self.journal, self.sequence = f"{random.getrandbits(128):032x}", 0
        self.running = {"app": None, "manifest": None}

    def report(self, update=None):
        self.sequence += 1
        body = {
            "journal": self.journal, "sequence": self.sequence, "running": self.running, "update": update,
            "boot_count": 1, "wake_reason": 0,
        }  # fmt: skip
        reply = self.http.post("/device/v1/report", headers=self.headers, json=body)
        assert reply.status_code < 300, reply.text

    def follow(self, fate="succeeded"):
        reply = self.http.get("/device/v1/desired", headers=self.headers)
        assert reply.status_code == 200, reply.text
        desired = reply.json()["app"]
        if desired is None or desired["update"] is None:
            return
        if fate == "succeeded":
            self.running = {"app": desired["sid"], "manifest": desired["manifest"]}
        self.report({"number": desired["update"], "state": fate, "error_code": 7 if fate == "failed" else 0})


@pytest.fixture(scope="module")
def device_http(data):
    server = credentials.from_directory(data)
    with httpx.Client(base_url=swarm_url(server), verify=server.tls()) as http:
        yield http


@pytest.fixture(scope="module")
def apps(data, tmp_path_factory):
    """Two apps, v1 and v2."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FLEETVISOR_URL", "FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN", "FLEETVISOR_CA_FILE"):
            patch.delenv(name, raising=False)
        for name in ("v1", "v2"):
            path = tmp_path_factory.mktemp("apps") / f"{name}.zip"
            path.write_bytes(simple_bundle(f"firmware {name}".encode()))
            assert run(["apps", "create", str(path), name, "--data", str(data), "--quiet"]) == 0


@pytest.fixture
def fleet(cli, device_http, apps):
    """Make devices that run v1, under a label of their own."""

    def make(site, count):
        made = cli(f"devices create {site} --count {count} --label site={site}")
        v1 = cli("apps show v1")[0]
        boards = [Board(device_http, device["sid"], device["device_token"]) for device in made]
        for board in boards:
            board.running = {"app": v1["sid"], "manifest": v1["hash"][7:]}
            board.report()
        return boards

    return make


@contextmanager
def living(boards, fate=lambda board: "succeeded"):
    """Let the boards do what is desired of them while a command runs."""
    stop, faults = threading.Event(), []

    def live():
        try:
            while not stop.is_set():
                for board in boards:
                    board.follow(fate(board))
                stop.wait(0.05)
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not faults, faults


def wait_until(is_so):
    end = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_a_draft_has_what_was_asked_for_and_its_plan(cli, eyes, fleet):
    fleet("plan", 10)
    [made] = cli(
        "rollouts create v2 -l site=plan --waves 2,50%,100% --limit 2.5% --confidence 99% --min-sample 7 --soak 2h"
        " --silent-after 90s --offline-after 1d --on-unproven stop --require-proof --max-concurrent 5"
        " --starts-per-minute 30", "--name", "spring [b]release[/b]",
    )  # fmt: skip
    assert (made["state"], made["selector"], made["friendly_name"]) == ("draft", "site=plan", "spring [b]release[/b]")
    assert made["guard"] == {
        "limit": 0.025, "confidence": 0.99, "minimum_sample": 7, "soak": 7200, "silent_after": 90,
        "offline_after": 86400, "on_unproven": "stop", "require_proof": True,
    }  # fmt: skip
    assert (made["max_concurrent"], made["starts_per_minute"]) == (5, 30)
    assert [wave["size"] for wave in made["waves"]] == ["2", "50%", "100%"]
    [plan] = cli("rollouts plan", made["sid"])
    assert (plan["selected"], sum(wave["devices"] for wave in plan["waves"])) == (10, 10)
    assert cli("rollouts plan --sample 1", made["sid"])[0]["waves"][0]["sample"] == plan["waves"][0]["sample"][:1]
    assert plan["waves"][0]["sample"][0] in eyes("rollouts plan --sample 2", made["sid"]).out
    assert "UV" not in eyes("rollouts plan", made["sid"]).out
    [named] = cli("rollouts create v2", "-l", "site=plan,app!=v1")
    assert "app!=KA" in named["selector"]
    assert "site=plan,app!=v1" in eyes("rollouts show", named["sid"]).out
    cli("rollouts remove", named["sid"])
    shown = eyes("rollouts show", made["sid"]).out
    assert "spring [b]release[/b]" in shown
    assert "release of v2" in shown
    assert "The rollout is a draft" in shown
    assert cli("rollouts update --max-concurrent 0", made["sid"])[0]["max_concurrent"] == 0
    assert cli("rollouts list --limit 1")[0]["sid"] == made["sid"]
    assert made["sid"] in eyes("rollouts list").out
    assert cli("rollouts remove", made["sid"]) == [{"removed": made["sid"]}]
    assert cli("rollouts show", made["sid"], status=3)["code"] == 20404


def test_a_release_is_watched_to_its_end(cli, eyes, fleet):
    boards = fleet("release", 8)
    [made] = cli(f"rollouts create v2 -l site=release --waves 1,50%,100% --start {QUICK}")
    assert made["state"] in {"starting", "running"}
    with living(boards):
        *changes, last = cli("rollouts watch --timeout 30", made["sid"])
    assert (last["sid"], last["state"], last["counts"]["succeeded"]) == (made["sid"], "completed", 8)
    assert {change["rollout_sid"] for change in changes} == {made["sid"]}
    assert [change["wave"] for change in changes] == sorted(change["wave"] for change in changes)
    assert changes[-1]["state"] == "completed"
    assert "guard" not in changes[0]
    assert cli("rollouts watch", made["sid"])[-1]["state"] == "completed"
    assert len(cli("rollouts devices", made["sid"])) == 8
    assert cli("rollouts devices --state failed", made["sid"]) == []
    assert "v1" in eyes("rollouts devices --state succeeded", made["sid"]).out
    (newest, *_) = cli("rollouts decisions", made["sid"])
    assert newest["sentence"] in eyes("rollouts decisions --limit 1", made["sid"]).out
    assert cli("rollouts remove", made["sid"]) == [{"removed": made["sid"]}]
    assert cli("rollouts show", made["sid"], status=3)["code"] == 20404


def test_a_watch_by_eyes_tells_changes_in_lines_where_nothing_may_move(cli, eyes, fleet):
    boards = fleet("lines", 3)
    [made] = cli(f"rollouts create v2 -l site=lines --waves 100% {QUICK}")
    with living(boards):
        out, err = eyes("rollouts start --watch --timeout 30", made["sid"])
    assert "3 succeeded" in out
    assert "completed, wave 1 of 1" in err.splitlines()[-1]
    assert len(err.splitlines()) <= 6
    assert "\x1b" not in out + err


def test_a_rollout_that_fails_is_stopped_with_status_8_and_taken_back(cli, fleet):
    boards = fleet("bad", 6)
    [made] = cli(f"rollouts create v2 -l site=bad --waves 100% --on-unproven stop --start {QUICK}")
    failing = {boards[0].sid, boards[1].sid}
    with living(boards, lambda board: "failed" if board.sid in failing else "succeeded"):
        told = cli("rollouts watch --timeout 30", made["sid"], status=8)
    assert told["exit_code"] == 8
    assert "stopped" in told["error"]
    assert "over the limit" in told["error"]
    assert f"rollouts rollback {made['sid']}" in told["hint"]
    assert {row["device_sid"] for row in cli("rollouts devices --state failed", made["sid"])} <= failing
    [back] = cli(f"rollouts rollback --start {QUICK}", made["sid"])
    assert (back["kind"], back["rollback_of"]) == ("rollback", made["sid"])
    with living(boards):
        assert cli("rollouts watch --timeout 30", back["sid"])[-1]["state"] == "completed"
    v1 = cli("apps show v1")[0]["sid"]
    assert all(board.running["app"] == v1 for board in boards)


def test_a_rollout_is_paused_resumed_held_released_retried_and_aborted(cli, eyes, fleet):
    boards = fleet("hands", 4)
    [made] = cli(f"rollouts create v2 -l site=hands --waves 2,100% --start {QUICK} --limit 60% --offline-after 1h")
    with living(boards, lambda board: "failed"):
        wait_until(lambda: (cli("rollouts show", made["sid"])[0]["decision"] or {}).get("code") == "unproven_over_hold")
    assert cli("rollouts watch --timeout 0", made["sid"], status=1)["hint"].endswith(made["sid"])
    assert "operator" in eyes("rollouts show", made["sid"]).out
    assert cli("rollouts pause", made["sid"])[0]["state"] == "paused"
    assert cli("rollouts pause", made["sid"], status=5)["status"] == 409
    assert cli("rollouts resume", made["sid"])[0]["state"] == "running"
    assert cli("rollouts retry", made["sid"])[0]["retrying"]
    wait_until(lambda: not cli("rollouts show", made["sid"])[0]["retrying"])
    assert "wave 1 of the Rollout is" in cli("rollouts release --wave 2", made["sid"], status=5)["error"]
    assert cli("rollouts release --wave 1", made["sid"])[0]["wave"] == 2
    told = cli(f"rollouts rollback --start {made['sid']}", status=1)
    assert "was made but not started" in told["error"]
    assert "still under way" in told["error"]
    assert cli("rollouts list --limit 1")[0]["state"] == "draft"
    assert cli("rollouts abort", made["sid"])[0]["state"] == "aborted"
    assert "aborted" in cli("rollouts watch", made["sid"], status=8)["error"]


def test_a_rollout_is_started_at_a_time(cli, fleet):
    fleet("later", 1)
    [made] = cli("rollouts create v2 -l site=later --start-at 2099-01-01T00:00:00Z")
    assert (made["state"], made["date_start"]) == ("scheduled", "2099-01-01T00:00:00Z")
    [draft] = cli("rollouts create v2 -l site=later")
    assert cli("rollouts start --at 2099-01-01T00:00:00Z --max-concurrent 3", draft["sid"])[0]["max_concurrent"] == 3
    assert "did not end in time" in cli("rollouts watch --timeout 0", draft["sid"], status=1)["error"]
    for one in (made, draft):
        cli("rollouts abort", one["sid"])
        cli("rollouts remove", one["sid"])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("rollouts create v2 --start", 2),
        ("rollouts create v2 -l site=x --all", 2),
        ("rollouts create no-such-app --all", 3),
        ("rollouts create v2 -l site==x", 1),
        ("rollouts create v2 --all --waves 50%,10%", 1),
        ("rollouts create v2 --all --on-unproven maybe", 1),
        ("rollouts create v2 --all --soak soon", 2),
        ("rollouts update RO1", 2),
        ("rollouts", 2),
        ("rollouts rollback RO00000000000000000000000000000000", 3),
        *((f"rollouts {verb} RO1", 3) for verb in ("show", "plan", "start", "pause", "abort", "watch", "decisions")),
        ("rollouts devices RO1", 3),
        ("rollouts remove RO1", 3),
    ],
)
def test_what_is_wrong_has_its_status_and_a_hint(cli, apps, line, status):
    told = cli(line, status=status)
    assert told["exit_code"] == status
    assert told["hint"]


@contextmanager
def terminal():
    """Give the end of a terminal that a program writes to, and what it wrote there."""
    master, slave = pty.openpty()
    seen = bytearray()

    def read():
        try:
            while piece := os.read(master, 4096):
                seen.extend(piece)
        except OSError:
            pass  # the last program that had the terminal is gone

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield slave, seen
    finally:
        os.close(slave)
        thread.join()
        os.close(master)


@pytest.mark.parametrize("no_color", [False, True])
def test_a_person_at_a_terminal_sees_a_bar_for_each_wave(cli, data, fleet, no_color):
    boards = fleet(f"seen-{no_color}".lower(), 3)
    [made] = cli(f"rollouts create v2 -l site=seen-{no_color} --waves 1,100% {QUICK}".lower(), "--name", "spring")
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140"} | ({"NO_COLOR": "1"} if no_color else {})
    command = [sys.executable, "-m", "fleetvisor.cli.main", "rollouts", "start", made["sid"], "--watch"]
    with living(boards), terminal() as (end, seen):
        done = subprocess.run(
            [*command, "--data", str(data)], stdout=subprocess.PIPE, stderr=end, env=environment, timeout=30
        )
    picture = seen.decode()
    assert done.returncode == 0, picture
    assert "spring" in picture
    assert "release of v2" in picture
    assert "wave 2" in picture
    assert "█" * 30 in picture
    assert "failure rate" in picture
    assert ("\x1b[32m" in picture) is not no_color
    assert "completed" in done.stdout.decode()
    assert "\x1b" not in done.stdout.decode()
