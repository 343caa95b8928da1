"""Simulated worlds of rollouts: two nodes that die at their writes, devices of both protocols, busy operators."""

import re
from collections import Counter

import pytest

from fleetvisor.features.rollouts import fate, members, rules, store
from fleetvisor.features.updates import rollout_devices
from fleetvisor.sim.checks import Violated
from fleetvisor.sim.network import CALM
from fleetvisor.sim.rollout_world import RolloutRecipe, run_rollouts


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 50, 5))
def test_in_every_world_of_rollouts_the_promises_hold_and_everything_comes_to_its_end(first: int) -> None:
    """A failing world prints its story, and the command that runs it again. ``make nightly`` runs 10,000."""
    deaths, ends, devices = 0, Counter[str](), Counter[str]()
    for seed in range(first, first + 5):
        outcome = run_rollouts(RolloutRecipe(seed))
        deaths += outcome.deaths
        ends.update(outcome.rollouts)
        devices.update(outcome.devices)
    assert deaths > 5
    assert ends["completed"] > 5
    assert devices["succeeded"] > 5
    assert devices["left"] > 5


def test_the_same_seed_gives_the_same_world_of_rollouts_to_the_byte() -> None:
    assert run_rollouts(RolloutRecipe(3)) == run_rollouts(RolloutRecipe(3))
    assert run_rollouts(RolloutRecipe(3)).trace != run_rollouts(RolloutRecipe(4)).trace


def test_a_world_without_trouble_completes_its_rollouts_without_a_death() -> None:
    outcome = run_rollouts(RolloutRecipe(12, weather=CALM, writes_between_deaths=0))
    assert outcome.deaths == 0
    assert outcome.rollouts["completed"] > 2


async def _nothing(*_: object, **__: object) -> bool:
    return False


def _count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that a device was counted before: what a ticker that is not idempotent would do."""
    insert = rollout_devices.insert

    async def again(tx, rows, before):  # type: ignore[no-untyped-def]
        await insert(tx, rows, {})

    monkeypatch.setattr(rollout_devices, "insert", again)  # a fault that the simulation must find


def _take_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # a fault that the simulation must find
    monkeypatch.setattr(fate, "has_newer_instruction", lambda subject, rollout: False)


def _never_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_devices, "leave", _nothing)  # a fault that the simulation must find


def _go_on_when_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> list[members.DeviceRef]:
        return []

    monkeypatch.setattr(members, "to_cancel", none)  # a fault that the simulation must find


def _know_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    # a fault that the simulation must find
    monkeypatch.setattr(rules, "allowance", lambda rollout, updating, now: None)


def _begin_at_any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a step whoever took one meanwhile."""
    from msgspec.structs import replace

    step = store.step

    async def anyhow(tx, rollout, now, **changes):  # type: ignore[no-untyped-def]
        current = await store.find(tx, rollout.account_sid, rollout.rollout_sid)
        return await step(tx, replace(rollout, version=current.version), now, **changes)

    monkeypatch.setattr(store, "step", anyhow)  # a fault that the simulation must find


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_count_twice, "a count differs from its rows"),
        (_take_what_is_taken, "an older instruction took a device"),
        (
            _never_leave,
            "a device is deciding without an open update|a device decides in a rollout that does not have it",
        ),
        (_go_on_when_given_up, "a rollout given up has open updates"),
        (_know_no_bound, "more updates are open than may be"),
        (_begin_at_any_version, "something began twice"),
    ],
)
def test_the_checks_are_themselves_checked(monkeypatch: pytest.MonkeyPatch, spoil, sentence: str) -> None:  # type: ignore[no-untyped-def]
    """Each of these faults breaks a promise in some world soon, and the world says which, and how to run it again."""
    spoil(monkeypatch)
    for seed in range(30):
        try:
            run_rollouts(RolloutRecipe(seed))
        except Violated as fault:
            notes = "\n".join(fault.__notes__)
            assert f"replay: python -m fleetvisor.sim --rollouts --seed {seed}" in notes
            assert "operator: " in notes
            assert re.search(sentence, str(fault))
            return
    pytest.fail("no world noticed")
