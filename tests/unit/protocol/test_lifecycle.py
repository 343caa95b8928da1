"""protocol/lifecycle: which state of an update may follow which."""

from itertools import product

import pytest

from fleetvisor.protocol.lifecycle import CLOSED, OPEN, ErrorCode, State, is_open, may_follow


def test_every_state_is_open_or_closed():
    assert {*OPEN, *CLOSED} == set(State)
    assert not {*OPEN} & {*CLOSED}
    assert [state for state in State if is_open(state)] == list(OPEN)


def test_a_closed_state_never_changes():
    assert not any(may_follow(old, new) for old, new in product(CLOSED, State))


def test_an_open_update_moves_forward_and_may_skip_steps():
    """Reports get lost, and other protocols report less."""
    order = (*OPEN, State.SUCCEEDED)
    for old, new in product(OPEN, order):
        assert may_follow(old, new) == (order.index(new) > order.index(old))


@pytest.mark.parametrize("new", [State.FAILED, State.CANCELED, State.SUPERSEDED])
def test_any_open_update_may_end_without_success(new):
    assert all(may_follow(old, new) for old in OPEN)


def test_the_published_states_keep_their_names():
    """NOTE: devices, clients of the API and stored updates have these words."""
    open_states = ["pending", "downloading", "installing", "testing"]
    assert [*State] == [*open_states, "succeeded", "failed", "canceled", "superseded"]


def test_the_published_error_codes_keep_their_numbers():
    """NOTE: devices in the field send these numbers."""
    assert {code.name: code.value for code in ErrorCode} == {
        "NONE": 0,
        "DOWNLOAD_FAILED": 1,
        "HASH_MISMATCH": 2,
        "DOES_NOT_FIT": 3,
        "REFUSED_BY_POLICY": 4,
        "INCOMPATIBLE_HARDWARE": 5,
        "INSTALL_FAILED": 6,
        "REVERTED": 7,
        "REFUSED_BY_APPLICATION": 8,
        "NO_REPORT": 9,
        "OTHER": 99,
    }
