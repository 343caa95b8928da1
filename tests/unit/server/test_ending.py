"""A server whose background jobs end by themselves ends, and says so; one that cannot say so ends all the same."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from fleetvisor.server.ending import first
from fleetvisor.server.files import StartFault


async def fail():
    raise OSError("disk full")


async def test_jobs_that_end_by_themselves_end_the_server():
    told = asyncio.get_running_loop().create_future()
    jobs = asyncio.ensure_future(fail())
    with pytest.raises(StartFault, match="background jobs ended"):
        await asyncio.wait_for(first(told, asyncio.Event(), jobs), 5)


async def test_a_signal_is_told_first():
    told = asyncio.get_running_loop().create_future()
    told.set_result(signal.SIGTERM)
    assert await first(told, asyncio.Event(), asyncio.ensure_future(fail())) is signal.SIGTERM


def test_an_end_at_once_needs_no_stream_that_works():
    code = """
import asyncio, sys
from fleetvisor.server.ending import leave_now
sys.stdout.write("untold")
leave_now(asyncio.new_event_loop().create_future())
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full, env=env, timeout=60)
    assert ended.returncode == 0
