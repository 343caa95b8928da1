"""What is kept of statements is bounded in bytes, on both engines, whatever selectors come."""

import gc
import tracemalloc

import apsw
import msgspec
import pytest

from fleetvisor.db.postgres_statements import Texts
from fleetvisor.db.sqlite_statements import Statements
from fleetvisor.db.statement_cache import BYTES_MAX, StatementCache

MIB = 1 << 20


class Number(msgspec.Struct):
    number: int


def text(number, size):
    return f"SELECT {number} AS number /* {'x' * size} */"


def test_values_are_kept_until_the_bytes_are_used_up_and_then_all_are_forgotten():
    kept = StatementCache(100_000)
    for number in range(5):
        assert kept.put(number, "value", "x" * 10_000) == "value"
        assert kept.put(number, "value", "x" * 10_000) == "value"
    assert [kept.get(number) for number in range(5)] == ["value"] * 5
    for number in range(5, 10):
        kept.put(number, "value", "x" * 10_000)
    assert kept.get(0) is None
    assert kept.get(9) == "value"
    assert kept.put("large", "value", "x" * 50_000) == "value"
    assert kept.get("large") is None
    assert kept.get(9) == "value"


def grown(work):
    """Return how many bytes stay that this file and the databases' modules took; other tests may have left threads."""
    ours = [tracemalloc.Filter(True, __file__), tracemalloc.Filter(True, "*/fleetvisor/db/*")]
    tracemalloc.start()
    try:
        work()
        gc.collect()  # rubbish in cycles is not kept
        snapshot = tracemalloc.take_snapshot().filter_traces(ours)
    finally:
        tracemalloc.stop()
    return sum(found.size for found in snapshot.statistics("filename"))


@pytest.mark.slow
def test_statements_on_sqlite_keep_a_bounded_number_of_bytes():
    statements = Statements(apsw.Connection(":memory:"))

    def work():
        for number in range(2000):
            for size in (60_000, 2000):
                assert statements.one(Number, text(number, size), {}) == Number(number)

    assert grown(work) < 2 * BYTES_MAX


@pytest.mark.slow
def test_texts_for_postgresql_keep_a_bounded_number_of_bytes():
    texts = Texts()

    def work():
        for number in range(1000):
            for size in (60_000, 2000):
                sql = f"SELECT :a AS number /* {number} {'x' * size} */"
                respelled, names = texts.respell(sql)
                assert names == ("a",)
                texts.learn(respelled, Number, ["number"])
                assert texts.respell(sql)[0] == respelled

    assert grown(work) < 4 * BYTES_MAX
