"""The language of selectors: what it reads, and how it points at a fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.features.devices.selectors import Term, parse
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits

LIMITS = Limits()
SID = "UV" + "0a" * 16


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  ", []),
        ("site=graz", [("site", "in", "graz")]),
        (" site = graz ,ring!=1", [("site", "in", "graz"), ("ring", "not in", "1")]),
        ("ring in (1, 2,2)", [("ring", "in", "1", "2")]),
        ("ring not in(1)", [("ring", "not in", "1")]),
        ("canary,!old", [("canary", "has"), ("old", "lacks")]),
        ("inside=1,notary", [("inside", "in", "1"), ("notary", "has")]),
        ('a/b.c-d_e="x, \\"y\\" \\\\ = ü"', [("a/b.c-d_e", "in", 'x, "y" \\ = ü')]),
        ("site=\N{LATIN SMALL LETTER U WITH DIAERESIS}", [("site", "in", "ü")]),
        ("app=thermostat-1.4,!target", [("app", "in", "thermostat-1.4"), ("target", "lacks")]),
        ('name="a\N{NO-BREAK SPACE}b\N{ZERO WIDTH JOINER}c"', [("name", "in", "a\u00a0b\u200dc")]),
        ("status in (error,pending)", [("status", "in", "error", "pending")]),
        ("seen<5m,seen>7d,!seen", [("seen", "<", "5m"), ("seen", ">", "7d"), ("seen", "lacks")]),
        ("name~boiler-*", [("name", "~", "boiler-*")]),
        (f"sid={SID}", [("sid", "in", SID)]),
    ],
)
def test_a_selector_is_read(text, terms):
    assert parse(text, LIMITS) == tuple(Term(key, operator, tuple(values)) for key, operator, *values in terms)


@pytest.mark.parametrize(
    ("text", "character", "word"),
    [
        ("site=,ring=1", 6, "a value"),
        ("site", None, None),
        (",", 1, "label"),
        ("site=graz,", None, "end"),
        ("site=graz ring=1", 11, "','"),
        ("site==x", 6, "a value"),
        ("ring in ()", 10, "a value"),
        ("s\N{LATIN SMALL LETTER E WITH ACUTE}=1", 2, "'!=' or ',' or '<'"),
        ("ring in (1", None, "end"),
        ("ring not 1", 10, "'in'"),
        ("in=1", 1, "word of the language"),
        ("a=1, not=2", 6, "word of the language"),
        ("status", 1, "up-to-date"),
        ("x=1,status=good", 12, "up-to-date"),
        ("access!=open", 9, "waiting"),
        ("seen=5m", 1, "seen<5m"),
        ("seen<5", 6, "5m"),
        ("ring<5m", 1, "seen"),
        ("site~g*", 1, "name"),
        ("sid=UV1", 5, "32"),
        ("k" * 64, 1, "63"),
        ("é=1", 1, "label"),
        ('a="x', 3, "value"),
        ('a="\t"', 3, "control"),
    ],
)
def test_a_fault_is_pointed_at(text, character, word):
    if word is None:
        parse(text, LIMITS)
        return
    with pytest.raises(Invalid) as refused:
        parse(text, LIMITS)
    detail = refused.value.detail
    assert (f"at character {character}," in detail) if character else ("at its end" in detail), detail
    if word != "end":
        assert word in detail, detail


def test_what_is_too_long_is_refused():
    with pytest.raises(Invalid):
        parse("a=" + "x" * 2000, LIMITS)
    with pytest.raises(Invalid):
        parse(f"a in ({','.join(map(str, range(101)))})", LIMITS)
    parse(f"a in ({','.join(map(str, range(100)))})", LIMITS)


@given(st.text(st.sampled_from('aB0=!<>~(),"\\ \tinot*?é\0'), max_size=40))
def test_no_text_is_a_fault_of_ours(text):
    try:
        parse(text, LIMITS)
    except Invalid as refused:
        assert refused.detail.startswith("Selector: ")


def test_label_before_a_key_says_that_a_label_is_meant() -> None:
    terms = parse("label.canary,!label.a.b,label.label.x=1,label.=2,label.app=3,canary", Limits())
    assert [(term.key, term.is_meant) for term in terms] == [
        ("canary", True),
        ("a.b", True),
        ("label.x", True),
        ("label.", False),
        ("label.app", False),
        ("canary", False),
    ]
