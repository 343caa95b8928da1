"""Refused enrolments are refused again from memory, for five minutes, in a bounded number of bytes."""

import tracemalloc

import pytest
from tests.unit.features.fleet import StillClock

from fleetvisor.features.identity.refusals import ENTRY_BYTES, Refusals, place_of
from fleetvisor.ground.errors import AccessDenied, ClockSkew, Unauthenticated
from fleetvisor.ground.limits import Limits


def test_a_refusal_is_remembered_for_five_minutes_however_often_it_is_asked():
    clock = StillClock()
    refusals, place = Refusals(clock=clock, limits=Limits()), place_of("token", "key", "proof")
    refusals.check(place)
    refusals.note(place, Unauthenticated("not known"))
    refusals.note(place_of("other"), AccessDenied("used up"))
    clock.pass_s(299)
    with pytest.raises(Unauthenticated, match="not known"):
        refusals.check(place)
    refusals.note(place, Unauthenticated("not known"))
    with pytest.raises(AccessDenied, match="used up"):
        refusals.check(place_of("other"))
    clock.pass_s(1)
    refusals.check(place)
    assert len(refusals) == 1


def test_what_a_wrong_clock_caused_is_not_remembered():
    refusals = Refusals(clock=StillClock(), limits=Limits())
    refusals.note(b"place", ClockSkew("an hour off"))
    refusals.check(b"place")


def test_no_two_enrolments_share_a_place():
    assert len({place_of("a", "b", "c"), place_of("ab", "", "c"), place_of("a", "bc", ""), place_of("abc")}) == 4


def test_the_memory_is_bounded_in_bytes_with_the_longest_refusals():
    bound = 1 << 20
    refusals = Refusals(clock=StillClock(), limits=Limits(enrollment_refusals_bytes=bound))
    tracemalloc.start()
    try:
        for number in range(3 * bound // ENTRY_BYTES):
            refusals.note(place_of(str(number)), Unauthenticated(f"{number} " + "é" * 5000))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(refusals) == bound // ENTRY_BYTES
    assert used < 1.2 * bound
    with pytest.raises(Unauthenticated):
        refusals.check(place_of(str(number)))
    refusals.check(place_of("0"))
