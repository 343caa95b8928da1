"""What stands before every edge: whose request it is, how often proofs failed, and that a denial is told of.

Only failures are counted, after the credential was judged: one that is valid is never slowed by its neighbours behind
the same address. Spec: ``docs/explanation/threat-model.md``.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from fleetvisor.features.events import actor
from fleetvisor.features.events.denials import Refusal
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Problem, TooManyRequests, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import FAILED_ADDRESSES
from fleetvisor.web.address import Addresses, network_of
from fleetvisor.web.auth import NoCredentials
from fleetvisor.web.rates import Buckets, Windows
from fleetvisor.web.requests import Request, Scope

ADDRESS: Final = "fleetvisor.address"
_PATH_CHARS_MAX: Final = 200
_IDENTITY_CHARS_MAX: Final = 64
_OTHER: Final = "other"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class DeviceName(NamedTuple):
    """A device as a request names it: in an account (empty: the first), by SID, controller id or unique name."""

    account: str = ""
    device: str = ""


NAMELESS: Final = DeviceName()


class Guard:
    """Judges refusals of every edge alike."""

    def __init__(
        self, *, addresses: Addresses, clock: Clock, limits: Limits, denied: Callable[[Refusal], None] = lambda _: None
    ) -> None:
        """Count nothing yet; ``denied`` is told of each refusal."""
        self._addresses = addresses
        self._limits = limits
        self._denied = denied
        self._by_identity = Windows(clock)
        self._by_address = Windows(clock, FAILED_ADDRESSES.members_max)
        self._keys = Buckets(clock, per_s=limits.key_requests_per_s, burst=limits.key_requests_burst)
        self._tokens = Buckets(clock, per_s=limits.auth_token_requests_per_s, burst=limits.auth_token_requests_burst)
        self._writes = Buckets(clock, per_s=limits.device_writes_per_s, burst=limits.device_writes_burst)

    def admit(self, scope: Scope) -> None:
        """Note the client's address in the scope. Raises ``Invalid`` for a contradiction of a trusted proxy."""
        scope[ADDRESS] = self._addresses.of(scope)

    def take_request(self, key_sid: str) -> None:
        """Count a request of an API key. Raises ``RateLimited``."""
        self._keys.take(key_sid, "An API key")

    def take_token_request(self, account_sid: str) -> None:
        """Count a request of an account's Auth Tokens. Raises ``RateLimited``."""
        self._tokens.take(account_sid, "An Auth Token")

    def take_write(self, device_sid: str) -> None:
        """Count a report or other write of a device. Raises ``RateLimited``."""
        self._writes.take(device_sid, "A Device")

    def judge(self, request: Request, problem: Problem, named: DeviceName = NAMELESS) -> Problem:
        """Return what a refused request is answered with: ``problem``, or 429 when too many proofs failed.

        ``named`` is the device that the request named beside its credentials.
        """
        if problem.status not in {401, 403, 429}:
            return problem
        address = address_of(request.scope)
        identity = _claimed(request, problem)
        proven = "headers" not in request.scope  # a held poll, whose credential was revoked meanwhile
        if isinstance(problem, Unauthenticated) and not isinstance(problem, NoCredentials) and not proven:
            problem = self._slowed(address, identity, problem)
        path = request.raw_path[:_PATH_CHARS_MAX].decode("ascii", "replace")
        known = actor.current().sid  # who was proven, and may not do this
        shown = known or (identity if len(identity) <= _IDENTITY_CHARS_MAX and identity.isalnum() else "")
        method = request.method if request.method in _METHODS else _OTHER
        self._denied(Refusal(address, shown, method, path, problem.status, network_of(address), *named))
        return problem

    def _slowed(self, address: str, identity: str, problem: Problem) -> Problem:
        network = network_of(address)
        many, left_s = self._by_identity.count(_digest(network, identity))
        all_many, all_left_s = self._by_address.count(network)
        if many > self._limits.failed_proofs_max:
            return TooManyRequests("Too many wrong credentials of this name.", retry_after_s=left_s)
        if all_many > self._limits.failed_proofs_per_address_max:
            return TooManyRequests("Too many wrong credentials from this address.", retry_after_s=all_left_s)
        return problem


def address_of(scope: Scope) -> str:
    """Return the client's address, as ``Guard.admit`` noted it."""
    return scope.get(ADDRESS, "")


def _claimed(request: Request, problem: Problem) -> str:
    """Return whom a request claims to be; a token that claims nothing is known by its hash."""
    if isinstance(problem, Unauthenticated) and problem.identity is not None:
        return problem.identity
    authorization = request.header(b"authorization") if "headers" in request.scope else None
    return "" if authorization is None else sha256(authorization).hexdigest()[:32]


def _digest(network: str, identity: str) -> bytes:
    """Return what a stranger's name is kept as: of a fixed size, however long it is."""
    return sha256(f"{network}\0{identity}".encode("utf-8", "surrogatepass")).digest()[:16]
