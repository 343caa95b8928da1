"""A header value with parameters is read as its grammar says, and never refused for what it holds."""

import pytest

from fleetvisor.web.values import parse_options, unescaped


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (b'form-data; name="File"; filename="a.bin"', {b"name": b"File", b"filename": b"a.bin"}),
        (b"form-data;name=File", {b"name": b"File"}),
        (b'Form-Data ; NAME = "File" ;', {b"name": b"File"}),
        (b'form-data; name="a;b\\"c\\\\d"', {b"name": b'a;b"c\\d'}),
        (b"form-data; name=a; name=b", {b"name": b"a"}),
        (b"form-data; lonely; =x; name=a", {b"lonely": b"", b"name": b"a"}),
        (b'form-data; name="open', {b"name": b'"open'}),
        (b"form-data", {}),
        (b"form-data;;; ", {}),
    ],
)
def test_parameters_are_read(raw: bytes, options: dict[bytes, bytes]) -> None:
    assert parse_options(raw) == (b"form-data", options)


def test_no_header_is_nothing() -> None:
    assert parse_options(None) == (b"", {})


def test_of_very_many_parameters_the_first_are_read() -> None:
    _, options = parse_options(b"a" + b"".join(b";p%d=1" % place for place in range(5000)))

    assert len(options) == 100


@pytest.mark.parametrize(
    ("text", "meant"), [(r"a\"b", 'a"b'), (r"\\", "\\"), (r"\\\"", '\\"'), (r"\a\\\\b", r"a\\b"), ("", "")]
)
def test_a_backslash_escapes_one_character(text: str, meant: str) -> None:
    assert unescaped(text) == meant
