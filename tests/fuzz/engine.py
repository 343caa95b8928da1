"""The fuzzer: inputs made by chance from seeds, and the bounds of time, memory and output that every parser keeps.

An input is a seed (or an input of the corpus) with bytes changed, doubled, dropped, put in or repeated up to the bound. A
parser may take an input or refuse it by one of its own refusals; anything else is a finding, and so is a bound that is broken.
The same seed makes the same inputs.
"""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.yardstick import slowness

CORPUS = Path(__file__).parent / "corpus"
MIB = 1 << 20
#: For each MiB read or made; what is smaller than a MiB may take as long.
TIME_S = 0.1
MEMORY_BYTES = 24 << 20
TRACED_EVERY = 40


@dataclass(frozen=True)
class Target:
    """A parser of bytes; ``parse`` gives how many bytes it made of them."""

    name: str
    parse: Callable[[bytes, Path], int]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...]
    tokens: tuple[bytes, ...] = ()
    bytes_max: int = 64 << 10
    made_bytes_max: int = 1 << 20
    memory_bytes_max: int = MEMORY_BYTES


class Finding(Exception):
    """A parser broke a promise; ``data`` is the input."""

    def __init__(self, target: Target, data: bytes, what: str) -> None:
        name = f"{target.name}-{sha256(data).hexdigest()[:16]}"
        super().__init__(f"{target.name}: {what}\n  input of {len(data)} bytes ({name}): {data[:200]!r}")
        self.data = data
        self.name = name


@dataclass
class Inputs:
    """Inputs for one target, without end."""

    target: Target
    chance: random.Random
    pool: list[bytes] = field(default_factory=list)

    def __iter__(self) -> Iterator[bytes]:
        kept = sorted((CORPUS / self.target.name).glob("*")) if (CORPUS / self.target.name).is_dir() else []
        self.pool = [*self.target.seeds(), *(path.read_bytes() for path in kept)]
        yield from self.pool
        yield from self._repeated()
        while True:
            data = self.chance.choice(self.pool)
            for _ in range(self.chance.choice((1, 1, 2, 4, 8))):
                data = self._changed(data)
            yield data[: self.target.bytes_max]

    def _repeated(self) -> Iterator[bytes]:
        """Every token, over and over, alone and at each token's first place in a seed."""
        for token in (*self.target.tokens, b" ", b"\0", b"\xff", b"9", b"\n", b'"', b"\\"):
            many = token * (self.target.bytes_max // len(token))
            yield many
            for seed in self.pool[:3]:
                at = max(0, seed.find(token))
                yield (seed[:at] + many)[: self.target.bytes_max - len(seed) + at] + seed[at:]

    def _changed(self, data: bytes) -> bytes:
        chance, at = self.chance, self.chance.randint(0, len(data))
        length = chance.choice((1, 1, 2, 4, 8, 40))
        part = data[at : at + length]
        match chance.randint(0, 8):
            case 0:
                return data[:at] + chance.randbytes(length) + data[at + length :]
            case 1 if at < len(data):
                return data[:at] + bytes([data[at] ^ 1 << chance.randint(0, 7)]) + data[at + 1 :]
            case 2:
                return data[:at] + data[at + length :]
            case 3:
                return data[:at] + part * chance.choice((2, 3, 50)) + data[at:]
            case 4 if self.target.tokens:
                return data[:at] + chance.choice(self.target.tokens) + data[at:]
            case 5:
                number = chance.choice((0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF))
                raw = number.to_bytes(4, chance.choice(("little", "big")))
                size = chance.choice((1, 2, 4))
                return data[:at] + raw[:size] + data[at + size :]
            case 6:
                other = chance.choice(self.pool)
                return data[:at] + other[chance.randint(0, len(other)) :]
            case 7 if part:
                many = part * (max(0, self.target.bytes_max - len(data)) // len(part))
                return data[:at] + many + data[at:]
            case _:
                return data[:at]


def check(target: Target, data: bytes, folder: Path, *, traced: bool) -> None:
    """Let the parser read an input. Raises ``Finding``."""
    made = 0
    for attempt in range(3):
        if traced and not attempt:
            tracemalloc.start()
        started = time.process_time()
        try:
            made = target.parse(data, folder)
        except target.refusals:
            made = 0
        except Exception as fault:
            raise Finding(target, data, f"{type(fault).__name__}: {fault}") from fault
        finally:
            taken = time.process_time() - started
            peak = 0
            if traced and not attempt:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
        if peak > target.memory_bytes_max:
            raise Finding(target, data, f"takes {peak} bytes of memory, more than {target.memory_bytes_max}")
        if made > target.made_bytes_max:
            raise Finding(target, data, f"makes {made} bytes, more than {target.made_bytes_max}")
        most_s = TIME_S * max(MIB, len(data) + made) / MIB
        if (traced and not attempt) or taken <= most_s or taken / slowness() <= most_s:
            return
    raise Finding(target, data, f"takes {taken:.3f} s of processor time")


def fuzz(target: Target, folder: Path, *, seed: int, seconds: float) -> int:
    """Feed a target for so long; give with how many inputs. Raises ``Finding``."""
    count, deadline = 0, time.monotonic() + seconds
    for count, data in enumerate(Inputs(target, random.Random(f"{target.name}-{seed}")), 1):
        check(target, data, folder, traced=count % TRACED_EVERY == 0)
        if time.monotonic() > deadline:
            break
    return count
