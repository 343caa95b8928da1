"""What a host name is bound to."""

import pytest

from fleetvisor.server.files import StartFault
from fleetvisor.server.listener import resolve


def test_an_address_is_bound_as_it_is_and_a_name_as_ipv4_first():
    assert resolve("127.0.0.1") == "127.0.0.1"
    assert resolve("0.0.0.0") == "0.0.0.0"
    assert resolve("localhost") == "127.0.0.1"


def test_a_name_without_an_address_is_refused():
    with pytest.raises(StartFault, match=r"no-such-host\.invalid"):
        resolve("no-such-host.invalid")
