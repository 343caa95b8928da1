"""Which links a DDI device's poll has, as its offer says."""

import pytest

from fleetvisor.channel.ddi.polls import poll_of
from fleetvisor.features.devices.offers import Offer, OpenUpdate
from fleetvisor.protocol.ddi import Poll


@pytest.mark.parametrize(
    ("cancel_requested", "waits_for_consent", "links"),
    [
        (False, False, {"deploy": 3}),
        (False, True, {"confirm": 3}),
        (True, False, {"cancel": 3}),
        (True, True, {"cancel": 3}),
    ],
)
def test_an_open_update_has_one_link_and_hides_what_is_installed(cancel_requested, waits_for_consent, links):
    update = OpenUpdate(3, "KA1", "forced", cancel_requested, waits_for_consent)
    assert poll_of(Offer(60, update=update, installed=2)) == Poll(60, **links)


def test_without_an_open_update_the_installed_one_is_named():
    assert poll_of(Offer(60, installed=2, wants_attributes=True)) == Poll(60, installed=2, wants_data=True)
