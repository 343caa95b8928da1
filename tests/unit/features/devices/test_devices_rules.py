"""What may be asked of a device in one change."""

import pytest
from msgspec import UNSET

from fleetvisor.features.devices import labels, rules
from fleetvisor.features.devices.model import DeviceChange
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits

LIMITS = Limits()


def test_a_change_that_asks_for_nothing_is_empty():
    assert rules.is_empty(DeviceChange())
    assert not rules.is_empty(DeviceChange(target_app=None))
    assert not rules.is_empty(DeviceChange(logging_enabled=False))


def refused(**change):
    with pytest.raises(Invalid) as error:
        rules.check_change(DeviceChange(**change), LIMITS)
    return error.value.detail


def allowed(**change):
    rules.check_change(DeviceChange(**change), LIMITS)
    return True


@pytest.mark.parametrize("target", [None, "KA1"])
def test_cancelling_and_targeting_at_once_is_a_contradiction(target):
    assert "CancelUpdate" in refused(cancel_update=True, target_app=target)
    assert allowed(cancel_update=True, target_app=UNSET)
    assert allowed(target_app=target)


def test_an_update_is_offered_again_only_where_there_is_a_target():
    assert allowed(offer_again=True)
    assert allowed(offer_again=True, target_app="KA1")
    assert "OfferAgain" in refused(offer_again=True, target_app=None)
    assert "OfferAgain" in refused(offer_again=True, cancel_update=True)


@pytest.mark.parametrize("extra", [{"mode": "skip"}, {"confirm": True}, {"confirm": False}])
def test_how_an_update_is_applied_is_said_with_its_app(extra):
    assert allowed(target_app="KA1", **extra)
    assert "TargetApp" in refused(**extra)
    assert "TargetApp" in refused(target_app=None, **extra)


def test_a_poll_interval_is_from_a_second_to_the_server_s_longest():
    longest = LIMITS.poll_interval_s_max
    for seconds in (1, longest, None, UNSET):
        assert allowed(poll_interval_s=seconds)
    for seconds in (-1, 0, longest + 1):
        assert f"from 1 to {longest} seconds" in refused(poll_interval_s=seconds)


def test_a_hardware_class_is_a_label_of_bounded_length():
    longest = "x" * LIMITS.label_chars_max
    assert allowed(hardware_class=longest)
    assert allowed(hardware_class=None)
    assert refused(hardware_class=longest + "x").startswith("HardwareClass ")


@pytest.mark.parametrize("word", ["app", "target", "status", "access", "hardware", "seen", "name", "sid", "in", "not"])
def test_a_word_of_the_language_of_selectors_is_no_key_of_a_label(word):
    with pytest.raises(Invalid, match=word):
        labels.parse([f"{word}=1"], LIMITS)
    assert labels.parse([f"{word}s=1"], LIMITS) == {f"{word}s": "1"}


def test_the_key_of_a_label_has_at_most_63_characters():
    assert labels.parse([f"{'k' * 63}=1"], LIMITS) == {"k" * 63: "1"}
    with pytest.raises(Invalid, match="63"):
        labels.parse([f"{'k' * 64}=1"], LIMITS)
    assert rules.LABEL_KEY_CHARS_MAX == 63, "selectors allow keys as long as labels have them"


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
