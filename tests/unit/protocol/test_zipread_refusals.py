"""protocol/zipread: each rule refuses a zip that breaks this rule alone, and takes one that only just keeps it."""

import io
import struct
import zlib

import pytest
from tests import rawzip
from tests.rawzip import DEFLATED, STORED, STREAMED, Raw, streamed

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import zipread

CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
ONE = Raw(b"x", b"content")
NEEDED, CENTRAL_NAME_BYTES, CENTRAL_COMMENT_BYTES, LOCAL_NAME_BYTES = 6, 28, 32, 26
ZIP64, HALF = b"\x01\x00\x00\x00", b"UT\x05\x00abcd"


def read(data, entries_max=64):
    source = io.BytesIO(data)
    budget = zipread.Budget(1 << 30)
    entries = zipread.read_entries(source, entries_max=entries_max)
    return {entry.name: b"".join(zipread.inflate(source, entry, budget)) for entry in entries}


def refusal(data, entries_max=64):
    with pytest.raises(Invalid) as refused:
        read(data, entries_max)
    return refused.value.detail


def one(**fields):
    """A zip of one entry, with other fields."""
    return rawzip.write([Raw(b"x", b"content", **fields)])


def both(method=DEFLATED, **lie):
    """A zip of one entry of whose two headers each tells the same lie."""
    return one(method=method, local=lie, central=lie)


def patched(data, magic, offset, value, *, last=False):
    """Write 16 bits into a header."""
    at = (data.rindex(magic) if last else data.index(magic)) + offset
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


LOCATOR = struct.pack("<4sLQL", b"PK\x06\x07", 0, 1500, 1)


@pytest.mark.parametrize("field", ["disk", "directory_disk", "count_here", "count"])
def test_a_field_of_the_end_record_that_refers_to_zip64_is_refused(field):
    assert "zip64" in refusal(rawzip.write([ONE], end={field: 0xFFFF}))


@pytest.mark.parametrize("field", ["length", "start"])
def test_a_place_in_the_end_record_that_refers_to_zip64_is_refused(field):
    assert "zip64" in refusal(rawzip.write([ONE], end={field: 0xFFFFFFFF}))


def test_a_zip64_locator_in_front_of_the_end_record_is_refused():
    assert "zip64" in refusal(rawzip.write([ONE], before_end=LOCATOR))
    assert "zip64" in refusal(rawzip.write([], before_end=LOCATOR))


@pytest.mark.parametrize("end", [{"disk": 1}, {"directory_disk": 1}, {"count_here": 0}, {"count_here": 2}])
def test_a_disk_of_several_is_refused(end):
    assert "several" in refusal(rawzip.write([ONE], end=end))


def test_just_as_many_entries_as_allowed_are_read():
    data = rawzip.write([Raw(b"x", b"1"), Raw(b"y", b"2")])
    assert read(data, entries_max=2) == {b"x": b"1", b"y": b"2"}
    assert "2 entries, more than the 1 allowed" in refusal(data, entries_max=1)


def test_a_directory_is_as_long_as_its_entries_need_and_no_longer_than_ours_ever_are():
    assert read(rawzip.write([Raw(b"", b"")])) == {b"": b""}
    assert "does not fit" in refusal(rawzip.write([Raw(b"", b"")], end={"length": 45}))
    assert read(one(comment=bytes(2048 - 46 - 1))) == {b"x": b"content"}
    assert "does not fit" in refusal(one(comment=bytes(2048 - 46)))


def test_a_directory_lies_just_in_front_of_the_end_record():
    for end in ({"start": 0}, {"length": 48}):
        assert "does not lie where" in refusal(rawzip.write([ONE], end=end))
    for moved in (b"#" + rawzip.write([ONE]), rawzip.write([ONE], prefix=b"##")[1:]):
        assert "does not lie where" in refusal(moved)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a zip"),
        (b"PK", "not a zip"),
        (rawzip.write([ONE]) + b"\0", "goes on behind"),
        (rawzip.write([ONE], end={"comment": 1}), "goes on behind"),
        (rawzip.write([ONE], comment=b"four", end={"comment": 3}), "goes on behind"),
        (END, "goes on behind"),
        (rawzip.write([ONE], comment=b"see " + END), "more than one end record"),
        (rawzip.write([ONE], comment=END + bytes(18)), "more than one end record"),
        (rawzip.write([ONE], comment=END + bytes(14) + b"\1\0"), "more than one end record"),
    ],
)
def test_one_end_record_stands_at_the_end(data, word):
    assert word in refusal(data)


def test_the_longest_comment_behind_a_large_entry_is_passed_over():
    large = bytes(range(256)) * 300
    data = rawzip.write([Raw(b"x", large, STORED)], comment=b"c" * 65535)
    assert read(data) == {b"x": large}


def test_a_magic_that_is_the_last_thing_of_an_entry_is_data():
    assert read(rawzip.write([Raw(b"x", END * 3, STORED)], comment=b"c")) == {b"x": END * 3}


def test_a_damaged_directory_says_at_which_entry():
    two = rawzip.write([Raw(b"x", b"1", comment=bytes(200)), Raw(b"y", b"2")])
    wrong = bytearray(two)
    wrong[two.rindex(CENTRAL)] ^= 1
    assert "damaged at its entry 1" in refusal(bytes(wrong))
    wrong = bytearray(two)
    wrong[two.index(CENTRAL)] ^= 1
    assert "damaged at its entry 0" in refusal(bytes(wrong))
    long = rawzip.write([Raw(b"x", b"1", comment=bytes(200))], end={"count": 2, "count_here": 2})
    assert "damaged at its entry 1" in refusal(long)
    end = {"count": 2, "count_here": 2, "length": 46 + 1 + 200 + 24}
    short = rawzip.write([Raw(b"x", b"1", comment=bytes(200))], before_end=CENTRAL + bytes(20), end=end)
    assert "damaged at its entry 1" in refusal(short)
    assert "damaged at its entry 0" in refusal(patched(one(), CENTRAL, CENTRAL_COMMENT_BYTES, 1))
    assert "damaged at its entry 0" in refusal(patched(one(), CENTRAL, CENTRAL_NAME_BYTES, 2))


def test_a_directory_holds_its_entries_and_nothing_more():
    data = rawzip.write([Raw(b"x", b"1"), Raw(b"y", b"2")], end={"count": 1, "count_here": 1})
    assert "more than its entries" in refusal(data)


def test_a_version_of_the_format_that_was_never_published_is_refused():
    """The upper byte says which system wrote the entry."""
    for version in (63, 63 | 0xFF00):
        assert read(patched(one(), CENTRAL, NEEDED, version)) == {b"x": b"content"}
    for version in (64, 255):
        assert f"version {version / 10}" in refusal(patched(one(), CENTRAL, NEEDED, version))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (one(disk=0xFFFF), "needs zip64"),
        (one(central={"packed": 0xFFFFFFFF}), "needs zip64"),
        (one(central={"size": 0xFFFFFFFF}), "needs zip64"),
        (one(central={"offset": 0xFFFFFFFF}), "needs zip64"),
        (one(central_extra=ZIP64), "zip64 field"),
        (one(local_extra=ZIP64), "zip64 field"),
        (one(central_extra=HALF + b"Z" + ZIP64), "zip64 field"),
        (one(disk=1), "another disk"),
        (both(method=STORED, size=6), "two sizes differ"),
        (both(method=STORED, packed=6), "two sizes differ"),
        (one(central_extra=b"UT\x05\x00abcd"), "extra field is damaged"),
        (one(local_extra=b"UT\x01\x00"), "extra field is damaged"),
        (one(local_extra=b"UT\x00\x00UT\xff\xff"), "extra field is damaged"),
    ],
)
def test_an_entry_with_a_strange_header_is_refused_by_name(data, word):
    assert refusal(data).startswith("Entry 'x': ")
    assert word in refusal(data)


@pytest.mark.parametrize("extra", [b"", b"a", b"abc", b"UT\0\0", b"UT\4\0abcd", b"UT\1\0aZZ\2\0bb", b"UT\1\0aZZZ"])
def test_extra_fields_that_keep_to_their_place_and_loose_bytes_are_passed_over(extra):
    assert read(one(central_extra=extra, local_extra=extra)) == {b"x": b"content"}


@pytest.mark.parametrize("bit", range(16))
def test_only_flags_that_change_nothing_are_allowed(bit):
    data = one(flags=1 << bit)
    if bit in {0, 6, 13}:
        assert "is encrypted" in refusal(data)
    elif bit in {1, 2, 11}:
        assert read(data) == {b"x": b"content"}
    elif bit == 3:
        assert "descriptor is missing" in refusal(data)
    else:
        assert f"flags {1 << bit:#06x}" in refusal(data)


@pytest.mark.parametrize("method", [1, 7, 9, 99])
def test_other_compression_methods_are_refused(method):
    assert f"compression method {method};" in refusal(one(method=method))


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        (0o120777 << 16, "symbolic link"),
        (0o040755 << 16, "directory"),
        (0x10, "directory"),
        (0o010644 << 16, "not a plain file"),
        (0o020644 << 16, "not a plain file"),
        (0o060644 << 16, "not a plain file"),
        (0o140644 << 16, "not a plain file"),
        (0, None),
        (0x01, None),
        (0x20, None),
        (0o644 << 16, None),
        (0o100644 << 16, None),
    ],
)
def test_only_plain_files_are_taken(attributes, word):
    data = one(attributes=attributes)
    assert read(data) == {b"x": b"content"} if word is None else word in refusal(data)


def test_a_name_that_ends_with_a_slash_is_a_directory():
    assert "is a directory" in refusal(rawzip.write([Raw(b"x/", b"")]))
    assert read(rawzip.write([Raw(b"/x", b"1")])) == {b"/x": b"1"}


def test_a_local_header_lies_in_front_of_the_directory():
    data = one()
    directory = data.index(CENTRAL)
    assert "outside" in refusal(one(central={"offset": directory - 29}))
    assert "no local header" in refusal(one(central={"offset": directory - 30}))
    assert read(rawzip.write([Raw(b"", b"", STORED)])) == {b"": b""}


def test_the_data_of_an_entry_ends_in_front_of_the_directory():
    packed = len(ONE.packed)
    assert "leaves the file" in refusal(both(packed=packed + 1))
    assert "The zip is cut off" in refusal(patched(one(), LOCAL, LOCAL_NAME_BYTES, 0xFFFF))


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ({"name": b"y"}, "name"),
        ({"method": STORED}, "method"),
        ({"flags": 2}, "flags"),
        ({"crc": 1}, "CRC-32"),
        ({"packed": 1}, "compressed size"),
        ({"size": 1}, "its size"),
        ({"crc": 0}, "CRC-32"),
        ({"packed": 0}, "compressed size"),
        ({"size": 0}, "its size"),
    ],
)
def test_two_headers_that_disagree_say_about_what(lie, what):
    assert f"disagree about {'' if what.startswith('its') else 'its '}{what}." in refusal(one(local=lie))


def test_a_streamed_entry_may_leave_open_only_what_follows_it():
    zeros = {"crc": 0, "packed": 0, "size": 0}
    for known in ({}, {"crc": zlib.crc32(b"content")}, {"size": 7}, {"packed": len(ONE.packed)}):
        assert read(rawzip.write([streamed(b"x", b"content", local=zeros | known)])) == {b"x": b"content"}
    for lie, what in (
        ({"crc": 1}, "CRC-32"),
        ({"packed": 1}, "compressed size"),
        ({"size": 1}, "size"),
        ({"method": 0}, "method"),
        ({"flags": 0}, "flags"),
        ({"name": b""}, "name"),
    ):
        lying = rawzip.write([streamed(b"x", b"content", local=zeros | lie)])
        assert f"disagree about its {what}" in refusal(lying)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("signature", [b"", b"PK\x07\x08"])
def test_a_descriptor_agrees_with_the_directory(place, signature):
    numbers = [zlib.crc32(b"content"), len(ONE.packed), 7]
    numbers[place] ^= 1
    lie = streamed(b"x", b"content", descriptor=signature + struct.pack("<3L", *numbers))
    assert "descriptor is missing, or disagrees" in refusal(rawzip.write([lie]))


def test_an_entry_follows_a_descriptor_with_a_signature_or_without():
    for signature in (True, False):
        data = rawzip.write([streamed(b"y", b"first", signature=signature), ONE])
        assert read(data) == {b"y": b"first", b"x": b"content"}


def test_a_descriptor_does_not_reach_into_the_directory():
    cut = streamed(b"x", b"content", descriptor=struct.pack("<3L", zlib.crc32(b"content"), len(ONE.packed), 7)[:-1])
    assert "descriptor is missing" in refusal(rawzip.write([cut]))


@pytest.mark.parametrize(("signature", "more"), [(True, 16), (False, 12)])
def test_an_entry_says_where_it_lies_and_what_its_headers_say(signature, more):
    first = Raw(b"abc", b"12345", STORED, local_extra=b"UT\1\0a", gap=b"gap")
    second = streamed(b"x", b"content", signature=signature, flags=STREAMED | 0x0800)
    found = zipread.read_entries(io.BytesIO(rawzip.write([first, second])), entries_max=2)
    start = 3 + 30 + 3 + 5
    assert found[0] == zipread.Entry(
        name=b"abc", method=STORED, flags=0, crc32=zlib.crc32(b"12345"), packed_bytes=5, size_bytes=5,
        header_start=3, data_start=start, end=start + 5,
    )  # fmt: skip
    data = start + 5 + 30 + 1
    assert found[1] == zipread.Entry(
        name=b"x", method=DEFLATED, flags=0x0808, crc32=zlib.crc32(b"content"), packed_bytes=len(ONE.packed),
        size_bytes=7, header_start=start + 5, data_start=data, end=data + len(ONE.packed) + more,
    )  # fmt: skip


def test_entries_may_touch_but_not_overlap_in_whatever_order_they_are_listed():
    inner = Raw(b"inner", b"inside")
    outer = Raw(b"outer", rawzip.local_header(inner) + inner.packed, STORED)
    inside = Raw(b"inner", b"inside", data=b"", central={"packed": len(inner.packed), "offset": 30 + 5})
    for entries in ([outer, inside], [inside, outer]):
        offset = 30 + 5 if entries[0] is outer else len(rawzip.local_header(inside)) + 30 + 5
        entries = [entry if entry is outer else Raw(**_with_offset(inside, offset)) for entry in entries]
        assert "Entry 'inner': overlaps entry 'outer'" in refusal(rawzip.write(entries))


def _with_offset(entry, offset):
    fields = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    return fields | {"central": entry.central | {"offset": offset}}


def test_a_name_stands_in_a_zip_once():
    assert "'x': stands in the zip twice" in refusal(rawzip.write([ONE, Raw(b"y", b""), Raw(b"x", b"other")]))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (both(size=6), "more than the 6 bytes"),
        (both(size=8), "inflates to 7 bytes, but its header says 8"),
        (both(crc=5), "CRC-32 is wrong"),
        (both(method=STORED, crc=5), "CRC-32 is wrong"),
        (one(data=rawzip.deflate(b"content")[:-1]), "cut off"),
        (one(data=b""), "cut off"),
        (one(data=rawzip.deflate(b"content") + b"!"), "more data behind the end"),
        (one(data=rawzip.deflate(b"content") + bytes(70_000)), "more data behind the end"),
        (one(data=b"\x07" + b"\xff" * 50), "stream is damaged"),
        (one(data=zlib.compress(b"content")), "stream is damaged"),
    ],
)
def test_what_an_entry_inflates_to_is_what_its_headers_say(data, word):
    assert refusal(data).startswith("Entry 'x': ")
    assert word in refusal(data)


def test_a_name_is_shown_up_to_80_characters_with_what_does_not_print_spelled_out():
    assert zipread.label(b"n" * 80) == f"Entry '{'n' * 80}'"
    assert zipread.label(b"n" * 81) == f"Entry '{'n' * 80}…'"
    assert zipread.label(b"\x1b[\n\0\xff") == "Entry '\\x1b[\\x0a\\x00\\xff'"
