"""What ends a server: a signal, a listener or background jobs that end by themselves; and the end without waiting."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable

import structlog

from fleetvisor.server.files import StartFault

_log = structlog.get_logger()


def tell(told: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    """Note the first signal; the second one ends the process without waiting for answers under way."""
    if told.done():
        leave_now(told)
    told.set_result(number)


async def first(
    told: asyncio.Future[signal.Signals], broken: asyncio.Event, jobs: asyncio.Task[None]
) -> signal.Signals:
    """Wait for a signal. Raises ``StartFault`` when the listener or the background jobs end before."""
    waiting: Awaitable[object] = asyncio.ensure_future(broken.wait())
    await asyncio.wait({told, waiting, jobs}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not told.done() and jobs.done():
        _log.error("jobs.ended", exc_info=None if jobs.cancelled() else jobs.exception())
        raise StartFault("The background jobs ended by themselves; the log says why. Start the server again.")
    if not told.done():
        raise StartFault("The server stopped listening by itself; its log says why.")
    return told.result()


def leave_now(told: asyncio.Future[signal.Signals]) -> None:
    """End the process with the status that the signal means; nothing acknowledged is lost by that."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # what cannot be told must not keep the process from ending
            stream.flush()
    os._exit(130 if told.done() and told.result() is signal.SIGINT else 0)
