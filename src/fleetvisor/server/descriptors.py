"""How the open files of this process are shared out, and how many of them are in use.

Each connection costs a descriptor from the moment it is accepted, long before its TLS handshake ends. The soft limit
stays below the hard one, so that a reserve is left when the soft limit is reached: without any, Granian's accepting
fails again and again and never comes to the handshakes whose end would free a descriptor.
Spec: ``docs/explanation/connections.md``.
"""

import errno
import os
import resource
from dataclasses import dataclass, replace
from typing import Final

import structlog

from fleetvisor.ground.limits import Limits

DESCRIPTORS_MAX: Final = 1 << 20
_OTHER_MAX: Final = 256  # for everything that is no connection: the database, firmware, uploads, threads
_OTHER_MIN: Final = 48
_OTHER_SHARE: Final = 4
_BACKLOG_MAX: Final = 4096
_BACKLOG_MIN: Final = 16
_BACKLOG_SHARE: Final = 32
_SPARE: Final = 32  # kept beyond what the kernel's queue may still hold
_CROWDED: Final = 0.75
_HELD_SHARE: Final = 0.9  # of the connections: there is always room for whoever does not wait
_DIRECTORY: Final = "/proc/self/fd"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How the descriptors are shared out."""

    hard: int
    soft: int
    backlog: int
    connections: int
    in_use_max: int

    @property
    def crowded(self) -> int:
        """Return the number of descriptors in use from which connections are not kept for a next request."""
        return int(self.in_use_max * _CROWDED)


def share_out(hard: int, asked: int) -> Shares:
    """Return the shares of ``hard`` descriptors, with at most ``asked`` connections (0: as many as there can be).

    The kernel's queue of connections that wait to be accepted (``backlog``) always fits between ``soft`` and
    ``hard``. ``in_use_max`` is where accepting pauses; half of what is meant for other things is still free then.
    """
    backlog = min(_BACKLOG_MAX, max(_BACKLOG_MIN, hard // _BACKLOG_SHARE))
    soft = max(1, hard - backlog - _SPARE)
    other = min(_OTHER_MAX, max(_OTHER_MIN, soft // _OTHER_SHARE))
    most = max(1, soft - other)
    connections = min(asked, most) if asked else most
    pause = min(soft - other // 2, connections + other // 2 + backlog)
    return Shares(hard=hard, soft=soft, backlog=backlog, connections=connections, in_use_max=max(1, pause))


def within(limits: Limits, shares: Shares) -> Limits:
    """Return the limits with the bounds that the descriptors set, and warn when those are small."""
    if limits.connections_max > shares.connections:
        _log.warning("connections.bound", asked=limits.connections_max, allowed=shares.connections)
    held = min(limits.held_polls_max, int(shares.connections * _HELD_SHARE))
    if held < limits.held_polls_max and not limits.connections_max:
        _log.warning(
            "descriptors.few",
            limit=shares.hard,
            held_polls=held,
            held_polls_max=limits.held_polls_max,
            advice="each device that waits needs one: raise the hard limit of open files (ulimit -Hn, LimitNOFILE= of"
            " systemd, ulimits of Docker), or lower FLEETVISOR_LIMIT_HELD_POLLS_MAX",
        )
    return replace(limits, connections_max=shares.connections, held_polls_max=held)


def hard_limit() -> int:
    """Return how many files this process may open at most, whatever its soft limit says now."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)


def set_soft_limit(wanted: int) -> None:
    """Set the soft limit of open files, within the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def in_use() -> int:
    """Return how many files are open; where the system cannot tell that cheaply, it lists them."""
    counted = os.stat(_DIRECTORY).st_size  # Linux 6.2 and newer tell the number here  # noqa: PTH116
    return counted or len(os.listdir(_DIRECTORY))  # noqa: PTH208


def exhausted(descriptor: int) -> bool:
    """Return whether no further file can be opened now, by trying it with a copy of an open one."""
    try:
        os.close(os.dup(descriptor))
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            return True
        raise
    return False
