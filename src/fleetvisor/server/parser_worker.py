"""The process that reads uploads: a line of JSON in for each file, a line of JSON out, until its input ends.

Started by ``server/parsing``. It ends with the server, and bounds its own CPU time and memory, so that a parser that
hangs or grows ends by itself. It ends by itself after a minute without work.
"""

import ctypes
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from fleetvisor.features.apps.reading import Parsed, Reading, read
from fleetvisor.ground.errors import Invalid, TooLarge
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.bundle import ParsedBundle
from fleetvisor.protocol.images import ParsedImage

IDLE_S: Final = 60.0
_MEMORY_BYTES_MAX: Final = 1 << 30
_PR_SET_PDEATHSIG: Final = 1
_NICE: Final = 5  # what is served comes before what is uploaded


class Task(msgspec.Struct, frozen=True):
    """One file to read; ``time_s`` is the CPU time that it may take."""

    reading: Reading
    limits: Limits
    time_s: float


class Outcome(msgspec.Struct, frozen=True):
    """How a reading ended: one of these is set."""

    bundle: ParsedBundle | None = None
    image: ParsedImage | None = None
    invalid: str | None = None
    too_large: str | None = None
    os_error: tuple[int, str, str] | None = None


def encode(value: Task | Outcome) -> bytes:
    """Render as one line."""
    return msgspec.json.encode(value, enc_hook=str) + b"\n"


def decode_task(line: bytes) -> Task:
    """Parse what the server sent."""
    return msgspec.json.decode(line, type=Task, dec_hook=_made)


def decode_outcome(line: bytes) -> Outcome:
    """Parse what a worker sent. Raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(line, type=Outcome, dec_hook=_made)


def _made(kind: type, value: Any) -> Any:  # noqa: ANN401  (as msgspec's hooks are)
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def carry_out(task: Task) -> Outcome:
    """Read the file of a task."""
    try:
        parsed: Parsed = read(task.reading, task.limits)
    except Invalid as refusal:
        return Outcome(invalid=refusal.detail)
    except TooLarge as refusal:
        return Outcome(too_large=refusal.detail)
    except MemoryError:
        return Outcome(invalid="The File needs more memory to be read than any firmware does.")
    except OSError as error:
        return Outcome(os_error=(error.errno or 0, error.strerror or str(error), str(error.filename or "")))
    return Outcome(bundle=parsed) if isinstance(parsed, ParsedBundle) else Outcome(image=parsed)


def main() -> int:
    """Serve until the input ends, or for a minute without work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the server, which may be told to end as well, decides when
    os.nice(_NICE)
    if not _end_with_the_server():
        return 0
    _bound(resource.RLIMIT_AS, _MEMORY_BYTES_MAX)
    _bound(resource.RLIMIT_CORE, 0)
    while select.select([sys.stdin], [], [], IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            break
        task = decode_task(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _bound(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + task.time_s) + 2)
        try:
            _answer(sys.stdout, carry_out(task))
        except BrokenPipeError:  # the server is gone; what Python still wants to write at the end goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            break
    return 0


def _end_with_the_server() -> bool:
    """Have the kernel end this process when the server ends, however it does; return whether the server is there.

    A parser that hangs reads nothing, so it would not notice. Linux only; elsewhere the bound on processor time ends
    it. Spec: prctl(2).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(sys.stdin, 0)
    return not any(happened & select.POLLHUP for _, happened in poll.poll(0))


def _answer(out: TextIO, outcome: Outcome) -> None:
    out.buffer.write(encode(outcome))
    out.buffer.flush()


def _bound(what: int, most: int) -> None:
    """Lower a soft limit of this process, where the system allows it."""
    _, hard = resource.getrlimit(what)
    try:
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"fleetvisor: a parser runs without a bound of its own: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
