"""The scenarios of the demo: a bad release is stopped early, explained, and taken back."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.cli.scenario import BadRelease, bad_release
from fleetvisor.cli.stage import open_stage
from fleetvisor.client.resources import Client

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("bare_environment")]
SMALL = {"devices": 60, "waves": "10%,40%,100%", "soak_s": 1}


@pytest.fixture
def tell():
    """Tell a story on a server of its own."""
    with ExitStack() as stack:
        stage = open_stage(stack, Output(json=True), None)

        def tell(story, spoil=None):
            spoilt = stage if spoil is None else replace(stage, http=Spoilt(stage.http, spoil))
            return bad_release(replace(spoilt, client=Client(spoilt.http)), story)

        yield tell


class Spoilt:
    """The connection to a server whose answers to reads were changed on the way."""

    def __init__(self, http, spoil):
        self.http, self.spoil = http, spoil

    def __getattr__(self, name):
        return getattr(self.http, name)

    def get(self, path, *rest, **more):
        return self.spoil(path, self.http.get(path, *rest, **more))

    def pages(self, path, *rest, **more):
        for item in self.http.pages(path, *rest, **more):
            if (left := self.spoil(path, bytes(item))) is not None:
                yield left


def hide_those_that_failed(path, answer):
    """Leave out of a rollout's devices those that failed: a stopped one has some, whichever devices came first."""
    hidden = path.endswith("/Devices") and b'"wave"' in answer and b'"state":"failed"' in answer
    return None if hidden else answer


def count_none_that_failed(path, answer):
    """Hide them from the rollout's counts as well, once it is stopped."""
    if path.startswith("/v1/Rollouts/RO") and b'"state":"stopped"' in answer:
        answer = re.sub(rb'"failed":\d+', b'"failed":0', answer)
    return hide_those_that_failed(path, answer)


def explain_nothing(path, answer):
    return answer.replace(b'"failed"', b'"waiting"') if path.endswith("/Explain") else answer


def call_all_up_to_date_but_one(path, answer):
    if not path.startswith("/v1/DeviceCounts"):
        return answer
    told = json.loads(answer)
    told["groups"][0]["count"] -= 1
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("spoil", "fails"),
    [
        (hide_those_that_failed, "The rollout counts"),
        (count_none_that_failed, "but the rollout came to"),
        (explain_nothing, "not explained by that"),
        (call_all_up_to_date_but_one, "not all have status up-to-date"),
    ],
)
def test_the_demo_fails_when_the_api_does_not_bear_out_its_story(tell, spoil, fails):
    with pytest.raises(Failure, match=fails):
        tell(BadRelease(**SMALL, fail_rate=0.6, touched_max=0.6), spoil)


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


@pytest.mark.alone
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
