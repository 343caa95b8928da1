"""Names and keys: what may be one, and what the refusal says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.names import check_key, check_unique_name, check_value, is_near, nearest


@pytest.mark.parametrize(
    "name",
    [
        "boiler-7",
        "thermostat 1.4.2",
        "日本語\u3000の名前",
        "naïve",
        "👩🔧",
        "...",
        "a" * 64,
        "UV" + "0" * 31,
        "uv" + "0" * 32,
        "a b !\"$&'()*+,-.:;<=>@[]^_`{|}~",
    ],
)
def test_a_unique_name_may_be_any_text_that_needs_no_care_in_a_path(name):
    assert check_unique_name(name, 64) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("a" * 65, "65 characters; 64"),
        ("a/b", "contain /:"),
        ("what?", "contain ?:"),
        ("line 3-#1", "contain #:"),
        ("100%", "contain %:"),
        ("a%41\\b?", "contain % ? \\:"),
        (" a", "space"),
        ("a ", "space"),
        ("a\u3000", "space"),
        ("a\u200db", "format"),
        ("\u202ecba", "format"),
        ("a\ufeff", "format"),
        (".", ". or .."),
        ("..", ". or .."),
        ("UV" + "0" * 32, "SID"),
        ("KA" + "aF" * 16, "SID"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\x9b", "control"),
        ("a\ud800", "surrogates"),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused_with_the_rule(name, rule):
    with pytest.raises(Invalid, match="UniqueName") as refusal:
        check_unique_name(name, 64)
    assert rule in refusal.value.detail


@pytest.mark.parametrize("key", ["a", "app.json", "Wi-Fi password", "~!@$^&*()[]{}|+:; ='", "k" * 100, "..."])
def test_a_key_is_printable_ascii(key):
    assert check_key(key, 100) == key


@pytest.mark.parametrize(
    "key",
    ["", "k" * 101, "a/b", "a?b", "a#b", "a%41", "a\\b", " a", "a ", ".", "..", "é", "a\tb", "a\0", "a\x7f", "\ud800"],
)
def test_a_key_that_breaks_a_rule_is_refused(key):
    with pytest.raises(Invalid, match="Key"):
        check_key(key, 100)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_a_value_is_any_text_that_both_engines_store(value):
    """Empty, newlines and control characters other than NUL are a value's own business."""
    assert check_value(value, 40) == value


@pytest.mark.parametrize("value", ["v" * 41, "a\0b", "\ud800", "a\udfff"])
def test_a_value_that_is_too_long_or_no_text_is_refused_without_being_repeated(value):
    with pytest.raises(Invalid, match="Value") as refusal:
        check_value(value, 40)
    assert value not in refusal.value.detail


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("selector", True), ("Selectors", True), ("Selctor", True), ("Sclector", True), ("xSelector", True),
        ("SELECTO", True), ("Selector", True), ("Selct", False), ("Selectorss", False), ("", False), ("elctor", False),
    ],
)  # fmt: skip
def test_a_slip_is_one_letter_or_the_case(name, near):
    assert is_near(name, "Selector") is near
    assert is_near("Selector", name) is near


def test_the_nearest_word_is_the_one_that_was_meant():
    known = ("Selector", "Waves", "StartAt", "Action")
    assert [nearest(name, known) for name in ("selectors", "wave", "StartAfter", "actn", "x" * 10_000)][:4] == [
        "Selector", "Waves", "StartAt", "Action",
    ]  # fmt: skip
