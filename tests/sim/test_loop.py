"""Virtual time: it passes only when everything waits, and the same world runs the same way twice."""

import asyncio

import pytest

from fleetvisor.sim.loop import Deadlock, SeededEntropy, VirtualClock, run_virtual


def test_an_hour_passes_at_once_and_in_order() -> None:
    async def main() -> list[tuple[float, str]]:
        clock, seen = VirtualClock(), list[tuple[float, str]]()

        async def wait(delay_s: float, name: str) -> None:
            await clock.sleep(delay_s)
            seen.append((clock.monotonic(), name))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait(3600, "late"))
            tasks.create_task(wait(1, "early"))
        return seen

    assert run_virtual(main()) == [(1, "early"), (3600, "late")]


def test_time_does_not_pass_while_something_is_ready() -> None:
    async def main() -> float:
        clock = VirtualClock()
        for _ in range(1000):
            await clock.sleep(0)
        return clock.monotonic()

    assert run_virtual(main()) == 0


def test_a_timeout_happens_in_virtual_time() -> None:
    async def main() -> float:
        clock = VirtualClock()
        with pytest.raises(TimeoutError):
            async with clock.timeout(50):
                await asyncio.get_running_loop().create_future()
        return clock.monotonic()

    assert run_virtual(main()) == 50


def test_a_world_in_which_everything_waits_for_ever_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_virtual(main())


def test_what_would_go_to_a_thread_runs_at_once() -> None:
    async def main() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 42)

    assert run_virtual(main()) == 42


def test_the_day_follows_virtual_time() -> None:
    async def main() -> int:
        clock = VirtualClock()
        start = clock.now()
        await clock.sleep(1.5)
        return clock.now() - start

    assert run_virtual(main()) == 1500


def test_entropy_follows_its_seed() -> None:
    assert SeededEntropy(1, "a").token(8) == SeededEntropy(1, "a").token(8)
    assert SeededEntropy(1, "a").token(8) != SeededEntropy(1, "b").token(8)
    assert SeededEntropy(1, "a").fraction() != SeededEntropy(2, "a").fraction()
