"""Uploads are read in worker processes, each file in a bounded time: the server's ``Reader``.

A parser that hangs holds its process for that time and nobody else: neither the event loop, nor another account's
upload, nor a download, nor the end of the server. One account has at most half of the workers. One worker stays for a
minute after its work. Deliberately no parsing: ``server/parser_worker`` calls it.
"""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from fleetvisor.features.apps.reading import Parsed, Reading
from fleetvisor.ground.errors import Invalid, TooLarge, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid
from fleetvisor.server.parser_worker import Outcome, Task, decode_outcome, encode

WORKER: Final = (sys.executable, "-P", "-m", "fleetvisor.server.parser_worker")
#: Each such number of bytes adds a second to the time that a file may take.
BYTES_PER_S: Final = 4 << 20
_ANSWER_BYTES_MAX: Final = 8 << 20
_DEATH_S: Final = 5.0
_RETRY_S: Final = 10
_log = structlog.get_logger()


@dataclass(slots=True)
class _Share:
    """The workers that one account may hold, and how many of its uploads hold or want one."""

    places: asyncio.Semaphore
    users: int = 0


class Parsers:
    """The worker processes of one server."""

    def __init__(self, limits: Limits, command: Sequence[str] = WORKER) -> None:
        """Start no process yet."""
        self._limits = limits
        self._command = command
        self._places = asyncio.Semaphore(limits.parsers_max)
        self._shares: dict[AccountSid, _Share] = {}
        self._workers: set[Process] = set()
        self._idle: Process | None = None

    async def __call__(self, account_sid: AccountSid, reading: Reading) -> Parsed:
        """Read a file in a worker. Raises ``Invalid``, ``TooLarge``, ``Unavailable``, ``OSError``."""
        async with self._place(account_sid):
            outcome = await self._read(reading)
        if outcome.invalid is not None:
            raise Invalid(outcome.invalid)
        if outcome.too_large is not None:
            raise TooLarge(outcome.too_large)
        if outcome.os_error is not None:
            raise OSError(*outcome.os_error)
        parsed = outcome.bundle or outcome.image
        if parsed is None:
            raise AssertionError("a worker answers with one of them")
        return parsed

    def kill(self) -> None:
        """End every worker at once, whatever it does."""
        for worker in self._workers:
            if worker.returncode is None:
                worker.kill()

    async def close(self) -> None:
        """End every worker, and wait until none is left."""
        self.kill()
        for worker in list(self._workers):
            await self._end(worker)

    @contextlib.asynccontextmanager
    async def _place(self, account_sid: AccountSid) -> AsyncGenerator[None]:
        """Wait for a worker to be free, and for the account's share of them. Raises ``Unavailable``."""
        share = self._shares.get(account_sid)
        if share is None:
            share = self._shares[account_sid] = _Share(asyncio.Semaphore(max(1, self._limits.parsers_max // 2)))
        share.users += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(self._limits.parse_wait_s):
                        await held.enter_async_context(share.places)
                        await held.enter_async_context(self._places)
                except TimeoutError:
                    raise Unavailable("Too many uploads wait to be read.", retry_after_s=_RETRY_S) from None
                yield
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[account_sid]

    async def _read(self, reading: Reading) -> Outcome:
        time_s = self._limits.parse_time_s + reading.file.stat().st_size / BYTES_PER_S
        line = encode(Task(reading, self._limits, time_s))
        worker, self._idle = self._idle, None
        # It may end for want of work just before it is asked: that is no fault of this file.
        if worker is not None and (answer := await self._ask(worker, line, time_s)):
            return answer
        worker = await self._start()
        if answer := await self._ask(worker, line, time_s):
            return answer
        if worker.returncode == -signal.SIGXCPU:
            raise _too_slow(time_s)
        _log.error("upload.parser_ended", status=worker.returncode)
        if worker.returncode is not None and worker.returncode < 0:
            raise Unavailable("The process that reads uploads was ended.", retry_after_s=_RETRY_S)
        raise Invalid("The File cannot be read: its parser failed. The server's log holds the cause.")

    async def _start(self) -> Process:
        # A session of its own: what a terminal sends to the server's group is the server's to decide.
        worker = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, limit=_ANSWER_BYTES_MAX, start_new_session=True
        )
        self._workers.add(worker)
        return worker

    async def _ask(self, worker: Process, line: bytes, time_s: float) -> Outcome | None:
        """Return a worker's answer, or ``None`` when it ended without one. A worker that answered is kept."""
        answer = b""
        try:
            async with asyncio.timeout(time_s):
                answer = await _exchange(worker, line)
                if not answer:  # it ended: let it say how before it is ended from here
                    await worker.wait()
                outcome = decode_outcome(answer) if answer.endswith(b"\n") else None
        except TimeoutError:
            raise _too_slow(time_s) from None
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error("upload.parser_answer", reason=str(error))
            return None
        finally:
            if not answer.endswith(b"\n") or self._idle is not None:
                await self._end(worker)
            else:
                self._idle = worker
        return outcome

    async def _end(self, worker: Process) -> None:
        """End a worker, and wait for it; not for ever, should its disk hang."""
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
        try:
            async with asyncio.timeout(_DEATH_S):
                await worker.wait()
        except TimeoutError:
            _log.error("upload.parser_stuck", pid=worker.pid)
        self._workers.discard(worker)


async def _exchange(worker: Process, line: bytes) -> bytes:
    """Send a line and give the one that comes back; less when the worker ended."""
    if worker.stdin is None or worker.stdout is None:
        raise AssertionError("a worker has pipes")
    if worker.stdin.is_closing():  # uvloop raises RuntimeError for a write to a pipe that it has closed
        return b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        worker.stdin.write(line)
        await worker.stdin.drain()
    return await worker.stdout.readline()


def _too_slow(time_s: float) -> Invalid:
    return Invalid(f"The File takes longer to read than the {time_s:.0f} s that a file of its size may take.")
