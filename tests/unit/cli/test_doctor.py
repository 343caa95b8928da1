"""What the doctor says of what it finds."""

import fcntl
import os
import resource

import pytest

from fleetvisor.cli.doctor import (
    Verdict,
    directory_checks,
    is_rewritten,
    judge_certificate,
    judge_clock,
    judge_descriptors,
    judge_disk,
    judge_health,
    judge_name,
)


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    (directory / "keys").mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)
    for name, content in {"credentials.json": b"{}", "keys/seal-1.key": bytes(32), "lock": b""}.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    return directory


def verdicts(directory):
    return {check.check: check.verdict for check in directory_checks(directory)}


def test_a_directory_without_a_server_is_a_warning(data):
    assert verdicts(data) == {
        "lock": Verdict.WARN,
        "modes": Verdict.OK,
        "owner": Verdict.OK,
        "sealing keys": Verdict.OK,
    }


def test_a_held_lock_is_a_server_that_runs(data):
    held = os.open(data / "lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert verdicts(data)["lock"] is Verdict.OK
    os.close(held)


@pytest.mark.parametrize("name", ["credentials.json", "keys/seal-1.key"])
def test_a_secret_that_others_may_read_is_a_failure_with_the_command_that_mends_it(data, name):
    (data / name).chmod(0o640)
    [found] = [check for check in directory_checks(data) if check.check == "modes"]
    assert found.verdict is Verdict.FAIL
    assert found.advice == f"Run: chmod go= {data / name}"


def test_a_sealing_key_of_the_wrong_size_is_a_failure(data):
    (data / "keys/seal-1.key").write_bytes(b"short")
    assert verdicts(data)["sealing keys"] is Verdict.FAIL


def test_a_missing_directory_is_a_failure(tmp_path):
    assert verdicts(tmp_path / "nope") == {"data directory": Verdict.FAIL}


@pytest.mark.parametrize(("free", "verdict"), [(1 << 20, "fail"), (500 << 20, "warn"), (1 << 40, "ok")])
def test_the_room_on_the_disk(free, verdict):
    assert judge_disk(free).verdict == verdict


@pytest.mark.parametrize(("days", "verdict"), [(-1, "fail"), (2, "fail"), (29, "warn"), (300, "ok")])
def test_the_days_of_the_certificate(days, verdict):
    assert judge_certificate(days).verdict == verdict


@pytest.mark.parametrize(("apart", "verdict"), [(0, "ok"), (-5, "ok"), (30, "warn"), (-61, "fail")])
def test_the_clock(apart, verdict):
    assert judge_clock(1000.0 + apart, 1000.0).verdict == verdict


@pytest.mark.parametrize(
    ("hard", "verdict"), [(resource.RLIM_INFINITY, "ok"), (1 << 20, "ok"), (4096, "ok"), (1024, "warn")]
)
def test_the_descriptors(hard, verdict):
    assert judge_descriptors(1024, hard).verdict == verdict


@pytest.mark.parametrize(
    ("host", "rewritten"),
    [
        ("localhost", False),
        ("127.0.0.1", False),
        ("mv.local", True),
        ("mv.example.com", False),
        ("a.b.c.example.com", False),
        ("a.b.c.d.example.com", True),
    ],
)
def test_a_name_that_twilio_node_would_change_is_known(host, rewritten):
    """Reference, 0.9: two labels are doubled, of more than five some are lost."""
    assert is_rewritten(host) is rewritten
    assert judge_name(host, resolves=True).verdict == ("warn" if rewritten else "ok")


def test_a_name_that_is_not_found_is_a_warning():
    assert judge_name("mv.example.com", resolves=False).verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b'{"status":"ok"}', Verdict.OK),
        (b'{"status":"ok","jobs":{"sweep":1.0}}', Verdict.OK),
        (b'{"status":"degraded","degraded":{"database":"disk_full"}}', Verdict.WARN),
        (b"<html>", Verdict.WARN),
    ],
)
def test_what_healthz_says_is_judged(body, verdict):
    assert judge_health(body).verdict is verdict
