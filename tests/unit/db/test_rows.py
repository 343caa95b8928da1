"""Rows become values of the type the caller names."""

import enum

import msgspec
import pytest

from fleetvisor.db.rows import plan


class Colour(enum.StrEnum):
    RED = "red"


class Row(msgspec.Struct, frozen=True):
    name: str
    colour: Colour
    maybe: Colour | None
    flag: bool
    perhaps: bool | None
    number: int


COLUMNS = ["name", "colour", "maybe", "flag", "perhaps", "number"]


def test_flags_and_enumerations_are_converted_and_null_stays():
    make = plan(Row, COLUMNS)
    row = make(("x", "red", "red", 1, 0, 5))
    assert row == Row("x", Colour.RED, Colour.RED, True, False, 5)
    assert row.maybe is Colour.RED
    assert row.perhaps is False
    assert make(("x", "red", None, 0, None, 5)) == Row("x", Colour.RED, None, False, None, 5)


def test_a_row_type_without_conversions_takes_the_values_as_they_are():
    class Plain(msgspec.Struct, frozen=True):
        a: int
        b: bytes | None

    assert plan(Plain, ["a", "b"])((1, None)) == Plain(1, None)


def test_a_field_that_is_a_struct_is_read_from_json():
    """The database keeps it as text, in which fields that came later are absent."""

    class Settings(msgspec.Struct, frozen=True):
        rate: float
        later: int = 7

    class Kept(msgspec.Struct, frozen=True):
        name: str
        settings: Settings

    assert plan(Kept, ["name", "settings"])(("x", '{"rate": 50000e-6}')) == Kept("x", Settings(0.05, 7))


@pytest.mark.parametrize("columns", [COLUMNS[:-1], [*COLUMNS, "more"], COLUMNS[::-1], []])
def test_columns_that_are_not_the_fields_in_their_order_are_refused(columns):
    """Two columns of one type, swapped, would otherwise go unseen."""
    with pytest.raises(TypeError, match="Row has the fields"):
        plan(Row, columns)


def test_a_value_that_the_enumeration_does_not_know_is_an_error():
    with pytest.raises(KeyError, match="blue"):
        plan(Row, COLUMNS)(("x", "blue", None, 0, None, 5))
