"""When something is over, to the millisecond."""

import pytest

from fleetvisor.ground.clock import is_over


@pytest.mark.parametrize(("end", "over"), [(None, False), (999, True), (1000, True), (1001, False)])
def test_what_ends_at_a_moment_is_over_in_that_moment(end, over):
    assert is_over(end, 1000) is over
