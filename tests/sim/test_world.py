"""Simulated worlds: the real server and real agents, on virtual time, from seeds."""

import os
import subprocess
import sys

import pytest

from fleetvisor.agent.flash import MemoryFlash
from fleetvisor.sim import world as worlds
from fleetvisor.sim.board import SMALL
from fleetvisor.sim.checks import History, Violated, check_flash
from fleetvisor.sim.world import Recipe, run_cuts, run_world


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 50, 10))
def test_in_every_world_the_promises_hold_and_every_device_arrives(first: int) -> None:
    """A failing world prints its story, and the command that runs it again."""
    for seed in range(first, first + 10):
        assert run_world(Recipe(seed=seed)).boots > 3


@pytest.mark.slow
def test_a_power_cut_at_any_operation_against_the_real_server_never_bricks_and_never_mixes() -> None:
    """One device for each write or erase of three updates and each moment: before, torn, after."""
    result = run_cuts(1)
    assert len(result.operations) >= 3 * 50
    story = "\n".join(result.story)
    for trouble in ("before a write", "torn a write", "after a write", "before an erase", "torn an erase", "after an"):
        assert f"power cut {trouble}" in story


def test_one_cut_can_be_run_again_alone() -> None:
    result = run_cuts(1, (20, "torn"))
    assert len(result.operations) == 1
    assert any("cut-20-torn power cut torn" in line for line in result.story)


def test_the_same_seed_gives_the_same_world_to_the_byte() -> None:
    assert run_world(Recipe(seed=3)) == run_world(Recipe(seed=3))
    assert run_world(Recipe(seed=3)).trace != run_world(Recipe(seed=4)).trace


@pytest.mark.service
def test_a_world_run_again_by_the_command_is_the_same_world() -> None:
    """Hashes of strings differ from process to process; the world does not."""
    command = [sys.executable, "-m", "fleetvisor.sim", "--seed", "5"]
    environment = {**os.environ, "PYTHONHASHSEED": "42"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert done.stdout.strip().endswith(f"trace {run_world(Recipe(seed=5)).trace}")


def test_a_broken_promise_fails_the_world_with_its_story_and_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks are themselves checked: a server whose bells are dumb never brings a device anywhere in time."""
    monkeypatch.setattr("fleetvisor.bus.bus.Bus.ring", lambda self, sids: None)  # a fault that the simulation must find
    with pytest.raises(Violated) as failure:
        run_cuts(1, (20, "torn"))
    notes = "\n".join(failure.value.__notes__)
    assert "replay: python -m fleetvisor.sim --seed 1 --cut" in notes
    assert "cut-20-torn" in notes


def test_a_device_that_runs_what_it_was_never_assigned_is_noticed() -> None:
    from tests.unit.agent.script import manifest

    from fleetvisor.agent.runner import memory_flash
    from fleetvisor.agent.slots import Slots
    from fleetvisor.agent.state import Armed, Booted, Confirmed, Image, Started
    from fleetvisor.sim.loop import SeededEntropy, VirtualClock
    from fleetvisor.sim.network import Network
    from fleetvisor.sim.operator import Firmware, Operator, Part

    async def nothing(*_: object) -> None: ...

    flash: MemoryFlash = memory_flash(SMALL)
    slots = Slots(flash, SMALL, SeededEntropy(1))
    for record in (Started(1, Image(manifest("x"), "KA")), Armed(), Booted(), Confirmed()):
        slots.keep(record)
    history = History("UV1", "AC1")
    operator = Operator(Network(nothing, VirtualClock()), "AC1", "token", SeededEntropy(1))
    operator.assigned["UV1"] = set()
    with pytest.raises(Violated, match="never assigned"):
        check_flash(flash, SMALL, history, operator)
    operator.assigned["UV1"].add(manifest("x"))
    operator.uploaded[manifest("x")] = Firmware("KA", "x", manifest("x"), (Part("internal", 0, b"firmware"),))
    with pytest.raises(Violated, match="mixture"):
        check_flash(flash, SMALL, history, operator)


def test_a_world_without_trouble_updates_every_device_at_the_first_try() -> None:
    recipe = Recipe(seed=9, storm_s=0, weather=worlds.CALM, operations_between_cuts=0)
    result = run_world(recipe)
    assert [line.split("  ")[-1] for line in result.story].count("board-0 reboot: update") == 1
    assert result.boots == recipe.boards
