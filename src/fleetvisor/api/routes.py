"""The table of operations: method, path, who handles it, and what the OpenAPI document says of it.

A path's variable parts stand at its third and fifth place only, so one dictionary look-up finds a route. Deliberately
no regular expressions and no redirects.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleetvisor.features.accounts.model import Caller, Role
from fleetvisor.web.answers import Answer
from fleetvisor.web.requests import Fields, Request

_VARIABLE_PLACES: Final = (2, 4)


@dataclass(slots=True)
class Call:
    """One authenticated request to one operation: ``args`` are the path's variable parts, in order."""

    request: Request
    caller: Caller
    args: tuple[str, ...]
    form: Fields


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter, in the form of a POST, else in the query. ``extension``: the original does not have it.

    ``blank``: the operation itself judges an empty value; operations of ours refuse all others that are empty.
    """

    name: str
    about: str
    kind: str = "string"
    required: bool = False
    extension: bool = False
    chars_max: int | None = None
    deprecated: bool = False
    repeated: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``shape`` is its answer's struct; ``list_key`` is set when it answers pages of that.

    ``media`` is the type of a body that is no form. ``scans``: it looks at a whole fleet, so it waits for its turn.
    ``judge`` raises ``AccessDenied`` where the role is not enough.
    """

    method: str
    template: str
    operation: str
    summary: str
    handler: Handler
    shape: type[msgspec.Struct] | None = None
    list_key: str | None = None
    status: int = 200
    params: tuple[Param, ...] = ()
    errors: tuple[int, ...] = (400, 401, 404, 429)
    extension: bool = False
    upload: bool = False
    media: str | None = None
    tags: tuple[str, ...] = field(default=())
    admin: bool = False
    scans: bool = False
    judge: Callable[[Caller], None] | None = None

    @property
    def has_extensions(self) -> bool:
        """Return whether it, or one of its parameters, is ours and not the original's."""
        return self.extension or any(param.extension for param in self.params)

    @property
    def role(self) -> Role:
        """Return the least role of an API key that may call it."""
        if self.admin:
            return "admin"
        return "viewer" if self.method == "GET" else "operator"


class Routes:
    """Finds the operation of a method and a path."""

    def __init__(self, routes: list[Route]) -> None:
        """Take the table."""
        self.table = tuple(routes)
        self._by_shape: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            parts = tuple("*" if part.startswith("{") else part for part in route.template.split("/")[1:])
            self._by_shape.setdefault(parts, {})[route.method] = route
        names = (part for parts in self._by_shape for place, part in enumerate(parts) if place not in _VARIABLE_PLACES)
        #: The names of the resources, such as ``Devices``: every fixed part of a path but the version.
        self.resources = frozenset(names) - {"v1"}

    def find(self, parts: tuple[str, ...]) -> tuple[dict[str, Route], tuple[str, ...]] | None:
        """Return the operations of a path's segments by method, and its variable parts; ``None`` for no such path."""
        shape = tuple("*" if place in _VARIABLE_PLACES else part for place, part in enumerate(parts))
        found = self._by_shape.get(shape) or self._by_shape.get(parts)
        if found is None:
            return None
        args = tuple(parts[place] for place in _VARIABLE_PLACES if place < len(parts))
        return (found, args) if all(args) else None
