"""SWUpdate images: the archive, sw-description in both its spellings, and every way in which one can be wrong."""

import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images import cpio, description, swu

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import swupdate

FILE = ("app.bin", b"firmware" * 1000, "/boot/app.bin")


def read(data):
    return swupdate.read(io.BytesIO(data), len(data))


@pytest.mark.parametrize("crc", [True, False])
def test_version_and_hardware_are_read(crc):
    found = read(swu([FILE], crc=crc, version="3.1.4", compatible=("1.0", "#RE:^2"), sign=lambda _: b"sig"))
    assert found == swupdate.Software("3.1.4", ("1.0", "#RE:^2"), signed=True)


def test_what_a_board_says_is_read_with_its_name():
    board = 'imx8: { hardware-compatibility: [ "a", "b" ]; stable: { copy-1: { images: ( ) } } };'
    assert read(swu([FILE], extra=board)).hardware_compatibility == ("1.0", "imx8:a", "imx8:b")


def test_a_description_in_json_is_read():
    told = {"software": {"version": "7", "hardware-compatibility": ["r1"], "files": [{"filename": "x", "path": "/x"}]}}
    data = cpio([("sw-description", json.dumps(told).encode()), ("x", b"x")])
    assert read(data) == swupdate.Software("7", ("r1",))


def test_comments_numbers_and_multi_line_texts_are_no_obstacle():
    extra = '/* a; b */ # c\n// d\n size = 0x10L; ratio = 1.5; on = true; embedded-script = "a\n@x\nb";'
    assert read(swu([FILE], extra=extra)).version == "1.0"


def test_an_encrypted_description_is_taken_as_it_is():
    assert read(cpio([("sw-description", b"Salted__\x00\xff\xfe"), ("x", b"y")])) == swupdate.Software(None)


def test_a_file_that_only_another_board_needs_may_be_missing():
    assert read(cpio([("sw-description", description([FILE]))])).version == "1.0"


GOOD = swu([FILE])
DESCRIBED = ("sw-description", description([FILE]))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (GOOD[:50], "truncated"),
        (GOOD[:4000], "leaves the file"),
        (cpio([DESCRIBED], trailer=False), "truncated"),
        (cpio([("app.bin", b"x"), DESCRIBED]), "first entry"),
        (cpio([]), "first entry must be 'sw-description', but it is nothing"),
        (cpio([DESCRIBED, ("app.bin", b"other")]), "SHA-256 is not the one"),
        (GOOD.replace(b"firmwarefirmware", b"firmwareFirmware", 1), "do not add up"),
        (cpio([DESCRIBED, ("../etc/passwd", b"x")]), "leads out"),
        (cpio([DESCRIBED, ("/etc/passwd", b"x")]), "leads out"),
        (cpio([DESCRIBED, ("a\tb", b"x")]), "unprintable"),
        (cpio([DESCRIBED, ("a", b"x"), ("a", b"x")]), "twice"),
        (cpio([DESCRIBED, ("n" * 300, b"x")]), "no name of 1 to"),
        (cpio([DESCRIBED, *((f"f{n}", b"") for n in range(1000))]), "more than 1000 entries"),
        (cpio([("sw-description", b" " * (257 << 10))]), "more than 262144 bytes"),
        (cpio([("sw-description", b"software = {")]), "cannot be read"),
        (cpio([("sw-description", b"software = { version = 1.2.3.4; };")]), "cannot be read"),
        (cpio([("sw-description", b'{"software": ')]), "cannot be read"),
        (cpio([("sw-description", b"a = " + b"{ b = " * 5000)]), "nested deeper"),
        (cpio([("sw-description", b"a = " + b"9" * 5000 + b";")]), "cannot be read"),
        (cpio([("sw-description", b'{"a":' * 100_000)]), "cannot be read|more than"),
        (cpio([("sw-description", b"name = 1;")]), "no group 'software'"),
        (cpio([("sw-description", b"[1]")]), "cannot be read|no group"),
        (cpio([("sw-description", b'@include "/etc/passwd"\nsoftware = { };')]), "@include"),
        (cpio([("sw-description", b"software = " + b"{ b = " * 40 + b"1;" + b"};" * 40)]), "nested deeper"),
        (b"070702" + b"zz" * 52 + GOOD[110:], "no cpio header"),
    ],
)
def test_a_broken_image_is_refused_with_its_rule(data, rule):
    with pytest.raises(Invalid, match=rule):
        read(data)


@given(st.binary(max_size=5000))
def test_sums_are_exact(piece):
    assert swupdate._sum(piece) == sum(piece)


@given(st.data())
def test_no_damage_ends_otherwise_than_in_a_refusal(data):
    raw = bytearray(swu([("x", b"content", "/x")], sign=lambda _: b"sig"))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read(cut)
    except Invalid as refused:
        assert refused.detail


HASHED = description([FILE]).decode()


@pytest.mark.parametrize(
    "told",
    [
        HASHED.replace("=\n", "= # f\xfcr den K\xfchler\n").encode("latin-1"),
        HASHED.replace("=\n", '= /* three\n @include "x"\n */\n').encode(),
        HASHED.replace("=\n", "= // nothing\0 here\n").encode(),
        HASHED.replace("=\n", '= /* a \\ " lone quote */\n').encode(),
        HASHED.replace("{", '{ embedded-script = "\n@include is not for us\n";', 1).encode(),
        b"\xef\xbb\xbf" + HASHED.encode(),
        HASHED.replace("\n", "\r\n").encode(),
    ],
)
def test_an_odd_comment_costs_neither_version_nor_hashes(told):
    assert read(cpio([("sw-description", told), FILE[:2]])).version == "1.0"
    with pytest.raises(Invalid, match="SHA-256 is not the one"):
        read(cpio([("sw-description", told), ("app.bin", b"other")]))


@pytest.mark.parametrize(
    "told", [HASHED.encode("utf-16"), HASHED.encode("latin-1") + b"\xff\xfe\x80;", b"\xfc" * 9 + HASHED.encode()]
)
def test_a_text_that_cannot_be_read_is_not_taken_for_an_encrypted_one(told):
    with pytest.raises(Invalid, match="cannot be read"):
        read(cpio([("sw-description", told)]))


def test_the_bytes_of_a_cipher_are_taken_for_an_encrypted_description():
    for number in range(50):
        told = hashlib.shake_128(bytes([number])).digest(320)
        assert read(cpio([("sw-description", told), ("x", b"y")])) == swupdate.Software(None)


def test_two_different_hashes_of_one_file_cannot_both_be_right():
    wrong = f'more: ( {{ filename = "app.bin"; sha256 = "{"0" * 64}"; }} );'
    for order in (wrong, ""):
        told = description([FILE], extra=order)
        if order:
            with pytest.raises(Invalid, match="SHA-256 is not the one"):
                read(cpio([("sw-description", told), FILE[:2]]))
        else:
            assert read(cpio([("sw-description", told), FILE[:2]])).version == "1.0"
