"""How a rollout is followed, and what its end means: with a server that the test plays."""

import json
from types import SimpleNamespace

import pytest

from fleetvisor.cli import rollout_watch
from fleetvisor.cli.options import ExitCode, Failure
from fleetvisor.cli.output import Output
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import read
from fleetvisor.client.rollouts import Rollout

ENDED = "2026-01-01T00:00:00Z"
GONE = Unreachable("gone", "look")


def rollout(state="running", wave=1, decision=0, **more):
    said = {"number": decision, "wave": wave, "verdict": "hold", "code": "deciding", "sentence": "Because."}
    body = {
        "sid": "RO1", "state": state, "wave": wave, "guard": {}, "counts": {"succeeded": 0},
        "waves": [{"position": 1, "size": "10%", "state": "open"}, {"position": 2, "size": "100%", "state": "waiting"}],
        "decision": said if decision else None, "kind": "release", "date_started": ENDED,
    }  # fmt: skip
    return read(json.dumps(body | more).encode(), Rollout)


@pytest.fixture
def watch(monkeypatch):
    """Watch what a server answers, one after the other; the clock goes on 0.5 s for each."""

    def call(*answers, timeout_s=None, **options):
        first, *rest = answers
        following = iter(rest)

        def get(sid):
            answer = next(following)
            if isinstance(answer, Exception):
                raise answer
            return answer

        at = [0.0]
        # no test waits for a minute; the command line has no clock port
        monkeypatch.setattr(rollout_watch.time, "monotonic", lambda: at[0])
        # no test waits for a minute; the command line has no clock port
        monkeypatch.setattr(rollout_watch.time, "sleep", lambda s: at.__setitem__(0, at[0] + s))
        client = SimpleNamespace(app=lambda sid: None)
        session = SimpleNamespace(out=Output(**options), rollouts=SimpleNamespace(get=get), client=client)
        rollout_watch.watch(session, first, timeout_s)

    return call


def test_a_completed_one_is_success_and_its_changes_are_lines(watch, capsys):
    done = rollout("completed", 2, 2, date_ended=ENDED, counts={"succeeded": 9})
    watch(rollout(), rollout(), rollout(decision=1), rollout(wave=2, decision=1), rollout(wave=2, decision=1), done)
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "running, wave 1 of 2",
        "running, wave 1 of 2",
        "running, wave 2 of 2",
        "completed, wave 2 of 2",
    ]
    assert "9 succeeded" in out


def test_programs_get_a_line_for_each_change_and_the_whole_in_the_end(watch, capsys):
    some = rollout(counts={"succeeded": 1})
    watch(rollout(), some, some, rollout("completed", date_ended=ENDED), json=True)
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [line.get("counts") for line in lines[:2]] == [{"succeeded": 0}, {"succeeded": 1}]
    assert len(lines) == 4
    assert "sid" not in lines[2]
    assert lines[3] == json.loads(rollout("completed", date_ended=ENDED).document)


def test_quiet_leaves_the_data_only(watch, capsys):
    watch(rollout(), rollout("completed", date_ended=ENDED), quiet=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert "completed" in out


@pytest.mark.parametrize("state", ["stopped", "aborted"])
def test_one_that_was_stopped_or_aborted_has_its_own_exit_status(watch, state):
    with pytest.raises(Failure) as caught:
        watch(rollout(), rollout(state, decision=1, date_ended=ENDED))
    assert caught.value.code == ExitCode.STOPPED == 8
    assert ("Because." in caught.value.detail) is (state == "stopped")
    assert "rollouts rollback RO1" in caught.value.hint


def test_a_draft_that_was_aborted_and_a_rollback_are_not_to_be_taken_back():
    for shown in (
        rollout("aborted", date_ended=ENDED, date_started=None),
        rollout("stopped", date_ended=ENDED, kind="rollback"),
    ):
        with pytest.raises(Failure) as caught:
            rollout_watch.conclude(shown)
        assert "rollouts rollback" not in caught.value.hint


def test_time_that_runs_out_is_a_failure_and_tells_that_the_rollout_goes_on(watch):
    with pytest.raises(Failure) as caught:
        watch(*[rollout()] * 10, timeout_s=2)
    assert caught.value.code == ExitCode.FAILED
    assert "The rollout continues" in caught.value.hint


def test_a_server_that_restarts_does_not_end_the_watch(watch):
    watch(rollout(), GONE, ApiProblem(20503, 503, "later", "wait"), rollout("completed", date_ended=ENDED))


def test_a_server_that_stays_away_does(watch):
    with pytest.raises(Unreachable):
        watch(rollout(), *[GONE] * 200)
    with pytest.raises(ApiProblem):
        watch(rollout(), *[ApiProblem(20500, 500, "fault", "look")] * 200)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Unreachable("not trusted", "look", lasting=True), Unreachable),
        (ApiProblem(20401, 401, "who", "log in"), ApiProblem),
        (ApiProblem(20404, 404, "gone", "look"), Failure),
    ],
)
def test_what_waiting_cannot_cure_ends_it_at_once(watch, problem, expected):
    with pytest.raises(expected) as caught:
        watch(rollout(), problem)
    if expected is Failure:
        assert caught.value.code == ExitCode.NOT_FOUND
