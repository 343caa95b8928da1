"""How descriptors are shared out: a reserve is always larger than what waits to be accepted."""

import pytest

from fleetvisor.ground.limits import Limits
from fleetvisor.server.descriptors import share_out, within


@pytest.mark.parametrize("hard", [128, 256, 400, 1024, 4096, 20_000, 65_536, 1 << 20])
def test_the_reserve_is_larger_than_the_queue_and_everything_else_has_room(hard):
    shares = share_out(hard, 0)
    assert shares.hard - shares.soft > shares.backlog + 1
    assert 0 < shares.connections < shares.soft
    assert shares.connections <= shares.in_use_max < shares.soft
    assert shares.crowded < shares.in_use_max


@pytest.mark.parametrize(("asked", "allowed"), [(0, 400 - 48 - 88), (40, 40), (5000, 400 - 48 - 88)])
def test_connections_are_what_was_asked_as_far_as_files_are_left(asked, allowed):
    assert share_out(400, asked).connections == allowed


def test_a_small_bound_on_connections_bounds_the_half_open_ones_too():
    shares = share_out(1 << 20, 40)
    assert shares.in_use_max < 40 + 256 + shares.backlog


def test_held_polls_leave_places_for_whoever_does_not_wait():
    limits = within(Limits(), share_out(1000, 0))
    assert limits.held_polls_max == int(limits.connections_max * 0.9)
    assert within(Limits(held_polls_max=5), share_out(20_000, 0)).held_polls_max == 5
