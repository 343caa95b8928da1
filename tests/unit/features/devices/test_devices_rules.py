"""What may be asked of a device in one change."""

import pytest
from msgspec import UNSET

from fleetvisor.features.devices import labels, rules
from fleetvisor.features.devices.model import DeviceChange
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits


def test_a_change_that_asks_for_nothing_is_empty():
    assert rules.is_empty(DeviceChange())
    assert not rules.is_empty(DeviceChange(target_app=None))
    assert not rules.is_empty(DeviceChange(logging_enabled=False))


@pytest.mark.parametrize("target", [None, "KA1"])
def test_cancelling_and_targeting_at_once_is_a_contradiction(target):
    with pytest.raises(Invalid, match="CancelUpdate"):
        rules.check_change(DeviceChange(cancel_update=True, target_app=target), 86400)
    rules.check_change(DeviceChange(cancel_update=True, target_app=UNSET), 86400)


def test_a_board_s_own_sid_is_kept_in_lower_case():
    assert rules.check_own_sid("UV" + "AB" * 16) == "UV" + "ab" * 16


@pytest.mark.parametrize("text", ["", "UV1", "KA" + "0" * 32, "uv" + "0" * 32, "UV" + "g" * 32, "UV" + "0" * 33])
def test_what_is_no_device_sid_is_refused(text):
    with pytest.raises(Invalid, match="32"):
        rules.check_own_sid(text)


@pytest.mark.parametrize(
    "text", ["site=graz,ring=3", "site=graz, ring=3", "site=graz;ring=3", "a=,b=c", "a=b,c=", "a=b;c/d=e=f"]
)
def test_two_labels_in_one_text_are_refused_with_the_right_form(text):
    with pytest.raises(Invalid, match="more than one label|characters") as refused:
        labels.parse([text], Limits())
    if "site" in text:
        assert "Labels=site=graz&Labels=ring=…" in refused.value.detail


@pytest.mark.parametrize("value", ["graz, Austria", "a,b", "x=y", "https://host/?a=b&c=d", "1;2"])
def test_a_value_may_hold_commas_and_equals_signs(value):
    assert labels.parse([f"site={value}"], Limits()) == {"site": value}
