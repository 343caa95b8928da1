"""Keyset pages, walked against a plain sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.pages import Cursor, Page, PageRequest, page_of, page_of_search

ROWS = st.sets(st.integers(0, 200), max_size=40)
SIZES = st.integers(1, 7)


def read(rows: set[int], request: PageRequest) -> Page[int]:
    """Do what a store does: the rows beside the cursor, at most size + 1, in list order or the reverse."""
    cursor = request.cursor
    if cursor is None:
        found = sorted(rows)
    elif cursor.forward:
        found = sorted(row for row in rows if (row,) > cursor.key)
    else:
        found = sorted((row for row in rows if (row,) < cursor.key), reverse=True)
    return page_of(found[: request.size + 1], request, lambda row: (row,))


@given(ROWS, SIZES)
def test_walking_forward_gives_every_row_once_in_order(rows, size):
    page = read(rows, PageRequest(size))
    walked = list(page.items)
    while page.next:
        page = read(rows, PageRequest(size, page.next))
        assert page.items, "a full page promises a next one only when there is one"
        walked += page.items
    assert walked == sorted(rows)


@given(ROWS, SIZES)
def test_walking_back_from_the_last_page_gives_every_row_once_too(rows, size):
    page = read(rows, PageRequest(size))
    while page.next:
        page = read(rows, PageRequest(size, page.next))
    walked = list(page.items)
    while page.previous:
        page = read(rows, PageRequest(size, page.previous))
        walked = [*page.items, *walked]
    assert walked == sorted(rows)


@given(ROWS, SIZES)
def test_the_page_before_the_next_page_is_the_same_page(rows, size):
    first = read(rows, PageRequest(size))
    if first.next:
        second = read(rows, PageRequest(size, first.next))
        assert second.previous is not None
        assert read(rows, PageRequest(size, second.previous)).items == first.items


@given(ROWS, SIZES, st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=60))
def test_rows_that_stay_are_seen_exactly_once_whatever_comes_and_goes(rows, size, changes):
    """Inserts and deletes between two pages, the cursor's own row among them, move nobody else."""
    present = set(rows)
    stay = rows - {row for _, row in changes}
    queue = list(changes)
    page = read(present, PageRequest(size))
    walked = list(page.items)
    while page.next:
        for _ in range(3):
            if queue:
                insert, row = queue.pop()
                present = present | {row} if insert else present - {row}
        page = read(present, PageRequest(size, page.next))
        walked += page.items
    assert walked == sorted(set(walked))
    assert stay <= set(walked)


def test_the_first_page_has_nothing_before_it_and_a_lone_page_nothing_beside_it():
    assert read({1, 2}, PageRequest(2)) == Page((1, 2), None, None)
    assert read({1, 2, 3}, PageRequest(2)) == Page((1, 2), Cursor((2,)), None)


def test_an_empty_page_leads_nowhere():
    assert read(set(), PageRequest(5)) == Page((), None, None)
    assert read({1}, PageRequest(5, Cursor((9,)))) == Page((), None, None)


def test_the_way_back_from_an_empty_page_meets_the_row_before_it():
    """The cursor stands at that row; a page before it would begin beyond."""
    ahead, back = PageRequest(3, Cursor(("b",))), PageRequest(3, Cursor(("d",), forward=False))

    def found_nothing(request, looked, *, ended):
        return page_of_search([], request, lambda row: (row,), looked, ended=ended, ends=(("",), ("~",)))

    assert found_nothing(ahead, ("b",), ended=True) == Page((), None, Cursor(("~",), forward=False))
    assert found_nothing(ahead, ("d",), ended=False) == Page((), Cursor(("d",)), Cursor(("d",), forward=False))
    assert found_nothing(back, ("d",), ended=True) == Page((), Cursor(("",)), None)
    assert found_nothing(back, ("a",), ended=False) == Page((), Cursor(("a",)), Cursor(("a",), forward=False))
