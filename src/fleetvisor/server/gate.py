"""The gate before the listening socket: it shuts while descriptors are short, and opens again.

While the gate is shut the kernel drops what asks for a new connection, so clients wait and ask again after a second;
nobody is refused. When descriptors ran out all the same, Granian's accepting fails again and again, and never comes to
the time limit of handshakes (10 s) that would free some; it cannot even be stopped. So the soft limit is raised by what
was kept in reserve, which is more than the kernel's queue holds: accepting takes what is queued, and goes on. Should
somebody else have used up the reserve, the process ends, so that whoever watches it starts it anew.
Spec: ``docs/explanation/connections.md``.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

import structlog

from fleetvisor.ground.clock import Clock
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.server import descriptors
from fleetvisor.server.descriptors import Shares
from fleetvisor.server.listener import Doors
from fleetvisor.server.shedding import Shedding
from fleetvisor.web.address import Addresses, Network
from fleetvisor.web.requests import Message, Scope

LOOK_S: Final = 0.05
_SO_ATTACH_FILTER: Final = getattr(socket, "SO_ATTACH_FILTER", 26)
_SO_DETACH_FILTER: Final = getattr(socket, "SO_DETACH_FILTER", 27)
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # a BPF program of one instruction: return 0, keep no byte
_STUCK_LOOKS: Final = 600
_QUIET_LOOKS: Final = 200  # a flood is logged once each ten seconds
_log = structlog.get_logger()


class Gate:
    """Watches the descriptors of this process, and shuts and opens one listening socket by them."""

    def __init__(self, taken: socket.socket, shares: Shares, broken: asyncio.Event, shedding: Shedding) -> None:
        """Watch for ``taken``. ``broken`` is set when accepting cannot begin again."""
        self.shares = shares
        self.crowded = False
        self.times_shut = 0
        self.times_exhausted = 0
        self._taken = taken
        self._broken = broken
        self.shedding = shedding
        self._shut = False
        self._raised = False
        self._stuck = 0
        self._quiet = 0

    async def look(self) -> None:
        """Look at the descriptors once, and do what they ask for; meant for every ``LOOK_S`` seconds."""
        self._quiet = max(0, self._quiet - 1)
        shares = self.shares
        if descriptors.exhausted(self._taken.fileno()):
            self._run_out()
            return
        self._stuck = 0
        used = descriptors.in_use()
        self.crowded = used >= shares.crowded
        if used >= shares.in_use_max:
            self._set_shut(used)
        elif self._shut and used < shares.in_use_max - max(2, shares.backlog // 4):
            if self._raised:
                self._raised = False
                descriptors.set_soft_limit(shares.soft)
            self._open()
        await self.shedding.look(used)

    def _run_out(self) -> None:
        self.crowded = True
        self._set_shut(self.shares.soft)
        if not self._raised:
            self._raised = True
            self.times_exhausted += 1
            descriptors.set_soft_limit(self.shares.hard)
            _log.warning(
                "descriptors.exhausted",
                limit=self.shares.soft,
                raised_to=self.shares.hard,
                advice="raise the hard limit of open files: ulimit -Hn, LimitNOFILE= of systemd",
            )
            return
        self._stuck += 1
        if self._stuck >= _STUCK_LOOKS and not self._broken.is_set():
            _log.error("descriptors.gone", limit=self.shares.hard, advice="raise the hard limit of open files")
            self._broken.set()

    def _set_shut(self, used: int) -> None:
        if self._shut:
            return
        code = ctypes.create_string_buffer(_DROP)
        program = struct.pack("HP", 1, ctypes.addressof(code))
        self._taken.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._shut = True
        self.times_shut += 1
        if not self._quiet:
            _log.warning("doors.shut", descriptors=used, most=self.shares.in_use_max)
            self._quiet = _QUIET_LOOKS

    def _open(self) -> None:
        self._taken.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        self._shut = False

    def began(self, _scope: Scope, message: Message) -> None:
        """End a connection with the answer that begins, while places are short."""
        if self.crowded:
            message["headers"] = (*message["headers"], (b"connection", b"close"))

    def release(self) -> None:
        """Return the descriptors that were kept in reserve, for whatever the end of the process needs."""
        descriptors.set_soft_limit(self.shares.hard)


def gate_before(
    doors: Doors, shares: Shares, limits: Limits, proxies: Sequence[Network], clock: Clock, offload: Offload
) -> Gate:
    """Return the gate before doors whose port is taken; call it before they open, since it counts what is open now."""
    shedding = Shedding(
        port=int(doors.taken.getsockname()[1]),
        places=shares.connections,
        most=limits.connections_per_address_max,
        base=descriptors.in_use(),
        addresses=Addresses(proxies),
        clock=clock,
        offload=offload,
    )
    return Gate(doors.taken, shares, doors.broken, shedding)
