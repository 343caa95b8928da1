"""The language of selectors: what it reads, and how it points at a fault."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.features.devices.selectors import Term, apps_named, duration_ms, parse
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


@pytest.mark.parametrize("text", ["*", " * ", "", " "])
def test_a_star_alone_selects_everything(text):
    assert parse(text, LIMITS) == ()
    assert apps_named(text) == []


@pytest.mark.parametrize("text", ["**", "*,site", "site,*", "!*"])
def test_a_star_beside_anything_is_a_fault(text):
    with pytest.raises(Invalid):
        parse(text, LIMITS)


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("site=graz", "graz"),
        ("site in (graz)", "graz"),
        ("site in (graz,graz)", "graz"),
        ("site in (graz,linz)", None),
        ("site!=graz", None),
        ("site", None),
        ("!site", None),
        ("name~graz", None),
        ("seen<5m", None),
    ],
)
def test_a_term_that_demands_one_value_says_which(text, only):
    (term,) = parse(text, LIMITS)
    assert term.only == only


@pytest.mark.parametrize(
    "field", ["app=x", "target=x", "status=error", "access=active", "hardware=x", "seen", "name", "!sid"]
)
def test_a_field_is_no_label_and_a_label_is_no_field(field):
    assert parse(field, LIMITS)[0].is_field
    assert not parse(f"x{field.removeprefix('!')}", LIMITS)[0].is_field


@pytest.mark.parametrize("word", ["up-to-date", "pending", "error"])
@pytest.mark.parametrize("operator", ["=", "!="])
def test_every_status_can_be_asked_for(word, operator):
    assert parse(f"status{operator}{word}", LIMITS)[0].values == (word,)


@pytest.mark.parametrize("word", ["waiting", "active", "disabled"])
def test_every_access_can_be_asked_for(word):
    assert parse(f"access={word}", LIMITS)[0].values == (word,)


@pytest.mark.parametrize(
    ("text", "ms"), [("1s", 1000), ("5m", 300_000), ("2w", 1_209_600_000), ("999999s", 999_999_000)]
)
def test_a_duration_is_said_in_milliseconds(text, ms):
    assert parse(f"seen<{text}", LIMITS)[0].values == (text,)
    assert duration_ms(text) == ms


def test_what_was_never_parsed_as_a_duration_is_a_fault_of_ours():
    for text in ("5", "1000000s"):
        with pytest.raises(AssertionError):
            duration_ms(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seen in (5m)", "seen is compared by '<' or '>'"),
        ("seen not in (5m)", "seen is compared by '<' or '>'"),
        ("seen!=5m", "seen is compared by '<' or '>'"),
        ("ring>5m", "'>' works only with seen"),
        ("name<5m", "'<' works only with seen"),
        ("site~x", "'~' works only with name"),
        ("seen<1000000s", "a time is a number and"),
        ("seen>x", "a time is a number and"),
        ("!status", "status must be compared with up-to-date, pending, error"),
        ("access", "access must be compared with waiting, active, disabled"),
        ("!access", "access must be compared with waiting, active, disabled"),
        ("status in (error,x)", "status is one of up-to-date, pending, error"),
        ("access not in (error)", "access is one of waiting, active, disabled"),
        ("sid=KA" + "0" * 32, "a sid is UV and"),
        ("sid!=x", "a sid is UV and"),
    ],
)
def test_what_a_field_cannot_be_compared_with_is_said(text, told):
    with pytest.raises(Invalid) as refused:
        parse(text, LIMITS)
    assert refused.value.detail.startswith(f"Selector: {told}")


def test_a_key_has_at_most_63_characters_also_one_that_is_meant():
    assert parse("k" * 63, LIMITS)[0].key == "k" * 63
    assert parse("label." + "k" * 63, LIMITS)[0].key == "k" * 63
    for text in ("k" * 64, "label." + "k" * 64):
        with pytest.raises(Invalid, match="63"):
            parse(text, LIMITS)


def test_a_selector_of_just_the_largest_size_is_read():
    assert len(parse("a=" + "x" * (LIMITS.selector_chars_max - 2), LIMITS)) == 1
    with pytest.raises(Invalid, match=f"more than {LIMITS.selector_chars_max} characters"):
        parse("a=" + "x" * (LIMITS.selector_chars_max - 1), LIMITS)
    most = LIMITS.selector_values_max
    for text in (",".join(["a"] * most), ",".join(["a=1"] * most), f"b,a in ({','.join(map(str, range(most - 1)))})"):
        parse(text, LIMITS)
        with pytest.raises(Invalid, match=f"more than {most} terms and values"):
            parse(f"{text},!c", LIMITS)


def test_a_fault_shows_the_next_twelve_characters():
    for text, shown in (("a=1 b=4567890123", "b=4567890123"), ("a=1 b=45678901234", "b=4567890123"), ("a=1 b", "b")):
        with pytest.raises(Invalid, match=re.escape(f"(at character 5, before '{shown}')")):
            parse(text, LIMITS)


def test_what_is_named_as_an_app_is_said_with_its_place():
    text = 'app=v1,site=v1,target in (v2, "v 3"),!app'
    assert [(text[place], name) for place, name in apps_named(text)] == [("v1", "v1"), ("v2", "v2"), ('"v 3"', "v 3")]
