"""One change to many devices: each by a request of its own, while the list is walked page by page.

So nothing is held for long, and it may be interrupted and run again at any time: a device that was removed meanwhile is
passed over, and one that refuses the change does not keep it from the others. Deliberately decides no device's change:
``deploy`` and ``devices label`` do.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import Device

_SHOWN: Final = 3
_TRIES: Final = 10
_PATIENCE_S: Final = 30.0


@dataclass(slots=True)
class Bulk:
    """What became of the devices. ``done`` says it of one, as in "given app-2"; ``refusals`` are its HTTP statuses."""

    out: Output
    what: str
    done: str
    refusals: frozenset[int] = frozenset({409})
    changed: int = 0
    unchanged: int = 0
    refused: list[str] = field(default_factory=list[str])

    @property
    def met(self) -> int:
        """Return how many devices there were."""
        return self.changed + self.unchanged + len(self.refused)

    def run(self, devices: Iterable[Device], total: int, change: Callable[[Device], bool]) -> None:
        """Change the devices; ``change`` tells whether there was anything to change. ``total`` is for the bar only.

        Raises ``Failure`` where it cannot go on, saying how far it came.
        """
        try:
            with self.out.counter(self.what, total) as progress:
                for number, device in enumerate(devices, 1):
                    self._one(device, change)
                    progress(number)
        except (ApiProblem, Unreachable) as problem:
            if not self.changed:
                raise
            raise Failure(f"{self.changed} devices were {self.done}, then: {problem.detail}", problem.hint) from problem
        except KeyboardInterrupt:
            self.out.note(f"Interrupted: {self.changed} devices were {self.done}. Run it again for the others.")
            raise

    def judge(self) -> None:
        """Tell of the devices that refused. Raises ``Failure``."""
        if self.refused:
            more = f"; {len(self.refused) - _SHOWN} more" if len(self.refused) > _SHOWN else ""
            said = "; ".join(self.refused[:_SHOWN])
            detail = f"{len(self.refused)} of {self.met} devices were not {self.done}: {said}{more}"
            raise Failure(detail, f"The other {self.met - len(self.refused)} are as they should be.")

    def _one(self, device: Device, change: Callable[[Device], bool]) -> None:
        try:
            if _patiently(device, change):
                self.changed += 1
            else:
                self.unchanged += 1
        except ApiProblem as problem:
            if problem.status in self.refusals:
                self.refused.append(f"{device.name}: {problem.detail}")
            elif problem.status != 404:
                raise


def _patiently(device: Device, change: Callable[[Device], bool]) -> bool:
    """Change a device, again where the server did nothing but ask for patience (429)."""
    for left in reversed(range(_TRIES)):
        try:
            return change(device)
        except ApiProblem as problem:
            if problem.status != 429 or not left:
                raise
            time.sleep(1.0 if problem.retry_after_s is None else min(problem.retry_after_s, _PATIENCE_S))
    raise AssertionError("the last try returns or raises")
