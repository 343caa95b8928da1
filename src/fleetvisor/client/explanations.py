"""Why a device runs what it runs, what it was given so far, and its penalties, as typed calls.

Beside ``resources``. Deliberately no domain rules: the server decides, this asks. Spec: ``docs/reference/explain.md``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from fleetvisor.client.resources import Resource, device_path, read, segment, walk

if TYPE_CHECKING:
    from fleetvisor.client.http import Http


class Reason(msgspec.Struct, kw_only=True):
    """One reason: a code for programs, a sentence for people."""

    code: str
    sentence: str
    about: str = ""
    until: str | None = None
    data: dict[str, str | int] = {}


class Explanation(Resource, kw_only=True):
    """Why a device runs what it runs and not something else."""

    device_sid: str
    unique_name: str | None = None
    controller_id: str | None = None
    update_status: str = "up-to-date"
    reasons: list[Reason]


class Update(Resource, kw_only=True):
    """One attempt to bring a device to an app: what it ran, and what it was to run, over time."""

    number: int
    app_sid: str
    rollout_sid: str | None = None
    state: str
    error_code: int = 0
    date_created: str
    date_updated: str


class Penalty(msgspec.Struct, kw_only=True):
    """How often a device failed an app, and whether rollouts pass it by for that."""

    app_sid: str
    failures: int
    held: bool
    date_failed: str


class Penalties(Resource, kw_only=True):
    """The apps that a device failed."""

    device_sid: str
    penalties: list[Penalty]


class Explanations:
    """The calls. Every call raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    def explain(self, device: str) -> Explanation:
        """Return why a device runs what it runs."""
        return read(self._http.get(f"{device_path(device)}/Explain"), Explanation)

    def updates(self, device: str) -> Iterator[Update]:
        """Walk the updates of a device, newest first."""
        return walk(self._http, f"{device_path(device)}/Updates", "updates", Update)

    def penalties(self, device: str) -> Penalties:
        """Return which apps a device failed."""
        return read(self._http.get(f"{device_path(device)}/Penalties"), Penalties)

    def lift(self, device: str, app_sid: str) -> None:
        """Let rollouts offer a device an app again that it failed."""
        self._http.delete(f"{device_path(device)}/Penalties/{segment(app_sid)}")
