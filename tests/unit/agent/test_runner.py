"""A whole device against a tiny server: it updates, and no power cut anywhere makes it a brick or a mixture."""

import asyncio
from pathlib import Path

import pytest
from tests.unit.agent.double import Bench, Lossy, TinyServer
from tests.unit.agent.script import GEOMETRY, OPTIONS, manifest

from fleetvisor.agent.core import View
from fleetvisor.agent.flash import Moment
from fleetvisor.agent.runner import Behaviour, Device, file_flash, memory_flash
from fleetvisor.protocol.lifecycle import State
from fleetvisor.sim.loop import SeededEntropy, VirtualClock, run_virtual

pytestmark = pytest.mark.slow


async def story(bench: Bench) -> None:
    """Through five updates, so that slots and journal are used again; an operator who sees a failure asks again."""
    for name in ("v1", "v2", "v3", "v1", "v2"):
        for _ in range(5):
            bench.server.assign(name)
            await bench.live(lambda: not bench.server.open)
            if bench.server.state == State.SUCCEEDED:
                break
        assert bench.server.running == manifest(name)


def operations() -> int:
    bench = Bench({})
    run_virtual(story(bench))
    return bench.operations


def test_without_cuts_every_update_takes_one_reboot() -> None:
    bench = Bench({})
    run_virtual(story(bench))
    assert bench.server.number == 5
    assert bench.boots <= 2 * 5


@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_a_cut_at_any_write_or_erase_never_bricks_and_never_mixes_and_the_device_arrives(moment: Moment) -> None:
    failed = 0
    for operation in range(operations()):
        bench = Bench({operation: moment}, seed=operation)
        try:
            run_virtual(story(bench))
        except BaseException as fault:
            fault.add_note(f"replay: Bench({{{operation}: {moment!r}}}, seed={operation})")
            raise
        failed += bench.server.number - 5
    assert failed <= 5, "a cut outside of the trial cost an update"


def test_a_second_cut_while_the_first_is_being_recovered_from_is_survived_too() -> None:
    total = operations()
    for operation in range(0, total, 2):
        for distance in (1, 2, 3, 5):
            bench = Bench({operation: "torn", operation + distance: "torn"}, seed=operation)
            try:
                run_virtual(story(bench))
            except BaseException as fault:
                fault.add_note(f"replay: Bench({bench.cuts}, seed={operation})")
                raise


def test_an_app_that_never_comes_up_is_reverted_and_reported() -> None:
    async def main() -> None:
        bench = Bench({}, behaviour=Behaviour(self_test=lambda hash_: hash_ != manifest("v2")))
        bench.server.assign("v1")
        await bench.live(lambda: not bench.server.open)
        bench.server.assign("v2")
        await bench.live(lambda: not bench.server.open)
        assert bench.server.state == State.FAILED
        assert bench.server.running == manifest("v1")

    run_virtual(main())


def test_a_lossy_network_only_delays() -> None:
    async def main(seed: int) -> None:
        clock = VirtualClock()
        server = TinyServer(clock)
        views: list[View] = []
        device = Device(
            flash=memory_flash(GEOMETRY),
            geometry=GEOMETRY,
            transport=Lossy(server, 0.3, seed),
            clock=clock,
            entropy=SeededEntropy(seed),
            options=OPTIONS,
            on_change=views.append,
        )
        server.assign("v1")
        with pytest.raises(TimeoutError):
            async with clock.timeout(3600):
                await device.run()
        assert (server.state, server.running) == (State.SUCCEEDED, manifest("v1"))
        assert [view.phase for view in views if view.phase in {"downloading", "testing", "idle"}][-1] == "idle"

    for seed in range(10):
        run_virtual(main(seed))


def test_an_idle_device_polls_once_per_wait() -> None:
    async def main() -> None:
        clock = VirtualClock()
        server = TinyServer(clock)
        device = Device(
            flash=memory_flash(GEOMETRY), geometry=GEOMETRY, transport=server, clock=clock, entropy=SeededEntropy(1)
        )
        with pytest.raises(TimeoutError):
            async with clock.timeout(3600):
                await device.run()
        assert server.requests <= 3600 / 50 + 3

    run_virtual(main())


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    class Silent:
        calls = 0

        async def exchange(self, request: object) -> object:
            self.calls += 1
            return await asyncio.get_running_loop().create_future()

    async def main() -> None:
        clock = VirtualClock()
        silent = Silent()
        device = Device(
            flash=memory_flash(GEOMETRY),
            geometry=GEOMETRY,
            transport=silent,  # type: ignore[arg-type]
            clock=clock,
            entropy=SeededEntropy(1),
        )
        with pytest.raises(TimeoutError):
            async with clock.timeout(3600):
                await device.run()
        assert silent.calls > 8

    run_virtual(main())


def test_an_agent_that_is_stopped_anywhere_goes_on_from_its_flash_file(tmp_path: Path) -> None:
    """Each run has a new process's memory; only the file is the same."""

    async def main() -> int:
        clock, runs = VirtualClock(), 0
        server = TinyServer(clock)
        server.assign("v1")
        while server.open:
            runs += 1
            assert runs < 100
            flash = file_flash(tmp_path / "flash", GEOMETRY)
            device = Device(
                flash=flash,
                geometry=GEOMETRY,
                transport=server,
                clock=clock,
                entropy=SeededEntropy(runs),
                options=OPTIONS,
            )
            try:
                async with clock.timeout(0.33):
                    await device.run()
            except TimeoutError:
                flash.close()
        return runs

    assert run_virtual(main()) > 3
