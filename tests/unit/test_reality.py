"""The threads for blocking work: no kind waits for another, and nothing waits for one that hangs."""

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from fleetvisor.reality import Threads

HANGS = """
import asyncio, threading
from fleetvisor.reality import Threads

async def main():
    asked = asyncio.ensure_future(Threads("stuck", 1)(threading.Event().wait))
    await asyncio.sleep(0.1)
    asked.cancel()

asyncio.run(main())
print("ended")
"""


async def test_work_gives_its_result_or_its_fault_and_knows_its_callers_context():
    threads, who = Threads("some", 2), contextvars.ContextVar("who", default="nobody")
    who.set("me")
    assert await threads(lambda: (who.get(), threading.current_thread().name)) == ("me", "some-1")
    with pytest.raises(ZeroDivisionError):
        await threads(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads(lambda: next(iter(())))


async def test_no_more_threads_are_started_than_the_bound_and_all_work_is_done():
    threads, names = Threads("few", 3), set()
    together = threading.Barrier(3, timeout=20)

    def work():
        names.add(threading.current_thread().name)
        together.wait()

    await asyncio.gather(*(threads(work) for _ in range(30)))
    assert names == {"few-1", "few-2", "few-3"}


async def test_work_whose_caller_left_before_its_turn_is_not_done():
    threads, done, go = Threads("one", 1), [], threading.Event()
    first = asyncio.ensure_future(threads(go.wait))
    second = asyncio.ensure_future(threads(lambda: done.append("second")))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0)
    go.set()
    await first
    await threads(lambda: done.append("third"))
    assert done == ["third"]


def test_the_end_of_loop_and_process_waits_for_no_thread_that_hangs():
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=20)
    assert (ended.stdout, ended.returncode) == ("ended\n", 0), ended.stderr
