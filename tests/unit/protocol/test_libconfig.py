"""libconfig: what it reads, what it refuses, and that its time grows with the length alone."""

import contextlib

import pytest
from tests import yardstick

from fleetvisor.protocol import libconfig


def parse(text):
    return libconfig.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        'version = "1.2.3";',
        'version : "1.2.3"',
        'version = "1.2.3",',
        '\ufeff/* a */ # b\n // c\nversion /* d */ = // e\n "1.2.3" # f',
        'version = "1." "2"\n /* between */ ".3";',
        'version = "1.\\x32.3";',
        'a = 0x1F4; b = 5000000000L; c = 0xFFFFL; d = 1.5e-3; e = .5; f = -2.; g = TRUE; h = 0b101; version = "1.2.3";',
        'script = "\n--[[\n@include is not for us\n]] { ( [ \\" /* #";\nversion = "1.2.3";',
        '*star = 1; a-b_c* = [ 1, 2, ]; g = { }; l = ( ); a = [ ]; version="1.2.3"',
        'versions = "9"; version-of = "9"; version = "1.2.3"; xversion = "9";',
        'a = ( "x", 1, { b = 1 }, [ "y" ], ( ), );\f\vversion = "1.2.3";\r\n',
        '/***/ /* * / **/ version = "1.2.3"; # the caf\xe9\'s',
    ],
)
def test_a_version_is_read_whatever_stands_around_it(text):
    assert parse(text)["version"] == "1.2.3"


def test_groups_lists_and_wanted_texts_are_kept_and_nothing_else():
    text = (
        'a = { filename = "x \\"y\\" \\\\n"; path = "/z"; n = 7; }; b = ( { sha256 = "00"; } ); version = 3; c = ["q"];'
    )
    assert parse(text) == {"a": {"filename": 'x "y" \\n'}, "b": [{"sha256": "00"}], "version": None, "c": ["q"]}
    assert parse('hardware-compatibility = [ "1.0", "#RE:^2" ];') == {"hardware-compatibility": ["1.0", "#RE:^2"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = ", "no value"),
        ("a = { b = 1;", "} is missing"),
        ("a = ( 1 2 )", "a comma or \\) is missing"),
        ("a = ( 1; )", "a comma or \\) is missing"),
        ('a = "x', "no end"),
        ("a = 1.2.3;", "no setting|no value"),
        ("a = 1x;", "no value"),
        ("/* x", "no setting"),
        ("a = 1; }", "no setting"),
        ('\n\n@include "/etc/passwd"', "line 3: it has an @include"),
        ("a = " + "{ b = " * 40, "deeper than 32"),
        ('version = "1"; version = "2";', "version stands twice"),
        ("a = (" + "{}," * 5000 + ")", "more than 4000"),
        ('version = "' + "\\n" * 3000 + '"', "more than 2000 escapes"),
        ("version = " + '""' * 1500, "too many pieces"),
    ],
)
def test_what_is_no_libconfig_text_is_refused_with_the_rule(text, why):
    with pytest.raises(libconfig.Malformed, match=why):
        parse(text)


UNITS = ["1,", '"",', "a=1;", 'filename="";', "a={};", "{},", "*", "*a", "/", "/**/", "#\n", " ", "9", '"', "\\", "\\n",
         '""', "a", "a=", "a={", "(", "a=1/**/;", "-", "1.", "1e", "@", "//", "\t", "a:/*", '{filename="x";sha256="y"},']  # fmt: skip


@pytest.mark.parametrize("before", ["", "a=[", "a=(", "version=(", 'version="', "/*", "a=", "a"])
def test_no_text_of_256_kib_takes_100_ms(before):
    for unit in UNITS:
        text = (before + unit * (256 << 10))[: 256 << 10]

        def read(text=text):
            with contextlib.suppress(libconfig.Malformed):
                parse(text)

        taken = yardstick.seconds(read, 0.1)

        assert taken <= 0.1, f"{before}{unit}… takes {taken:.3f} s"
