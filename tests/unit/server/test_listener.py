"""How many connections a machine allows, and what a host name is bound to."""

import pytest

from fleetvisor.server.files import StartFault
from fleetvisor.server.listener import RESERVE, connections_bound, resolve


@pytest.mark.parametrize(
    ("asked", "descriptors", "allowed"),
    [(0, 20_000, 20_000 - RESERVE), (1000, 20_000, 1000), (50_000, 20_000, 20_000 - RESERVE), (0, 100, 64)],
)
def test_connections_leave_descriptors_for_everything_else(asked, descriptors, allowed):
    assert connections_bound(asked, descriptors) == allowed


def test_an_address_is_bound_as_it_is_and_a_name_as_ipv4_first():
    assert resolve("127.0.0.1") == "127.0.0.1"
    assert resolve("0.0.0.0") == "0.0.0.0"
    assert resolve("localhost") == "127.0.0.1"


def test_a_name_without_an_address_is_refused():
    with pytest.raises(StartFault, match=r"no-such-host\.invalid"):
        resolve("no-such-host.invalid")
