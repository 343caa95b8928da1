"""Keyset pages: a list is cut by the sort key of its last row, never by an offset.

Deliberately does not know how a token is written on the wire: ``api/paging`` does. A cursor is the sort key
of the row next to the page, as a flat tuple of str and int, in the order of the list's ORDER BY.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page starts: after (``forward``) or before (not ``forward``) the row with this sort key."""

    key: tuple[str | int, ...]
    forward: bool = True


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a caller asks of a list: how many rows (1 to 1000), and from where (``None``: the first page)."""

    size: int = 50
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in list order, and the cursors of the neighbouring pages (``None`` where there is none)."""

    items: tuple[T, ...]
    next: Cursor | None
    previous: Cursor | None


def page_of(rows: Sequence[T], request: PageRequest, key: Callable[[T], tuple[str | int, ...]]) -> Page[T]:
    """Build a page from rows that were read beside ``request.cursor`` with a limit of ``request.size`` + 1.

    Rows come in list order when the cursor is absent or forward, in reverse order otherwise. ``key`` gives a
    row's sort key. The row beyond the size only shows that there is more in that direction. In the direction
    we came from there is a neighbour by definition: the cursor's own row was there when it was given.
    """
    cursor = request.cursor
    forward = cursor is None or cursor.forward
    more = len(rows) > request.size
    items = tuple(rows[: request.size]) if forward else tuple(reversed(rows[: request.size]))
    if not items:
        return Page((), None, None)
    has_next = more if forward else True
    has_previous = cursor is not None if forward else more
    return Page(
        items,
        Cursor(key(items[-1])) if has_next else None,
        Cursor(key(items[0]), forward=False) if has_previous else None,
    )


def page_of_search(
    found: Sequence[T],
    request: PageRequest,
    key: Callable[[T], tuple[str | int, ...]],
    looked: tuple[str | int, ...] | None,
    *,
    ended: bool,
    ends: tuple[tuple[str | int, ...], tuple[str | int, ...]],
) -> Page[T]:
    """Build a page from what a search found that looks at a bounded number of rows, up to ``request.size`` + 1.

    ``looked`` is the sort key of the last row that it looked at, ``None``: of none. ``ends`` are two sort keys: one
    before the first row that there can be, one after the last. A page that is short, even empty, has a neighbour ahead
    where the search had not ``ended``. From an empty page the way back begins at the row that the search looked at
    last, or at the list's end, so that the way back meets the cursor's own row again.
    """
    cursor = request.cursor
    forward = cursor is None or cursor.forward
    items = tuple(found[: request.size]) if forward else tuple(reversed(found[: request.size]))
    ahead = key(found[request.size - 1]) if len(found) > request.size else None if ended else looked
    if cursor is None:
        behind = None
    elif items:
        behind = key(items[0] if forward else items[-1])
    else:
        behind = ends[forward] if ended else looked
    after, before = (ahead, behind) if forward else (behind, ahead)
    return Page(
        items,
        None if after is None else Cursor(after),
        None if before is None else Cursor(before, forward=False),
    )
