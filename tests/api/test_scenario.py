"""The scenarios of the demo: a bad release is stopped early, explained, and taken back."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.cli.scenario import BadRelease, bad_release
from fleetvisor.cli.stage import open_stage

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]
SMALL = {"devices": 60, "waves": "10%,40%,100%", "soak_s": 1}


@pytest.fixture
def tell():
    """Tell a story on a server of its own."""
    with ExitStack() as stack:
        stage = open_stage(stack, Output(json=True), None)
        yield lambda story: bad_release(stage, story)


def test_a_bad_release_to_a_small_fleet_is_stopped_and_taken_back(tell, capsys):
    assert "rolled back" in tell(BadRelease(**SMALL, fail_rate=0.6, touched_max=0.6))
    told = json.loads(capsys.readouterr().out)
    assert told["code"] in {"failing", "unproven_over_stop"}
    assert told["wave"] <= 2
    assert 0 < told["touched"] < 36
    assert "failed" in told["sentence"]


def test_a_release_that_nothing_stops_is_a_failure_of_the_demo(tell):
    with pytest.raises(Failure, match="completed and not stopped"):
        tell(BadRelease(devices=12, waves="100%", soak_s=0, fail_rate=0.0, touched_max=1.5))


def test_a_release_that_is_stopped_late_is_a_failure_of_the_demo(tell):
    """All devices are in one wave, so all are touched before anything is known."""
    story = BadRelease(devices=12, waves="100%", soak_s=0, fail_rate=1.0, touched_max=0.5, testing_waves=0)
    with pytest.raises(Failure, match="devices were touched, 50% of the fleet or more"):
        tell(story)


def test_waves_that_come_to_too_many_devices_are_not_started(tell):
    with pytest.raises(Failure, match="drafts had too many"):
        tell(BadRelease(devices=12, waves="50%,100%", touched_max=0.5))


@pytest.mark.slow
def test_a_bad_release_to_a_thousand_devices_ends_well_within_ninety_seconds():
    """About 25 s on two cores."""
    began = time.monotonic()
    program = [sys.executable, "-m", "fleetvisor.cli.main", "demo", "--scenario", "bad-release", "--exit", "--json"]
    env = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["devices"] == 1000
    assert 0 < told["touched"] < 50
    assert time.monotonic() - began < 90
