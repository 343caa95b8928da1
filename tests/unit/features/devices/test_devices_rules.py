"""What may be asked of a device in one change."""

import pytest
from msgspec import UNSET

from fleetvisor.features.devices import rules
from fleetvisor.features.devices.model import DeviceChange
from fleetvisor.ground.errors import Invalid


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
