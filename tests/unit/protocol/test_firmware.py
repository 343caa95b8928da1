"""protocol/firmware: from what a compiler leaves to the flat image of a layer."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol.firmware import ROM_START, flatten, load_firmware

EXAMPLE = (Path(__file__).resolve().parents[3] / "examples/firmware/blinker-v1.elf").read_bytes()


def elf(segments, *, kind=2, machine=40, bits=1, order=1):
    """Write an ELF program: segments are (physical address, bytes[, size in memory])."""
    header_bytes, table = 52, b""
    offset = header_bytes + 32 * len(segments)
    data = b""
    for address, content, *memory in segments:
        size = memory[0] if memory else len(content)
        table += struct.pack("<8L", 1, offset + len(data), 0x20000000, address, len(content), size, 5, 4)
        data += content
    ident = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    rest = struct.pack("<2H5L6H", kind, machine, 1, 0, header_bytes, 0, 0, 52, 32, len(segments), 40, 0, 0)
    return ident + rest + table + data


def test_segments_lie_at_their_physical_addresses_with_erased_flash_between():
    """Initialised data runs in RAM but is loaded into ROM: the virtual address counts for nothing."""
    image = flatten(elf([(ROM_START + 8, b"data"), (ROM_START, b"text")]))
    assert image == b"text\xff\xff\xff\xffdata"


def test_the_image_begins_at_the_start_of_rom_even_if_nothing_is_there():
    assert flatten(elf([(ROM_START + 4, b"x")])) == b"\xff\xff\xff\xffx"


def test_segments_that_bring_no_bytes_are_left_out():
    """.bss is loadable, but only memory."""
    assert flatten(elf([(ROM_START, b"text"), (0x20000000, b"", 4096)])) == b"text"


def test_the_image_of_a_later_region_begins_at_its_start():
    assert flatten(elf([(ROM_START + 0x1000, b"x")]), start=0x1000, size=16) == b"x"


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "no loadable bytes"),
        ([(0x20000000, b"", 16)], "no loadable bytes"),
        ([(ROM_START - 1, b"xx")], "outside its region"),
        ([(ROM_START + 0xFFFFF, b"xx")], "outside its region"),
        ([(0x20000000, b"ram")], "outside its region 0x08000000 to 0x08100000"),
        ([(0, b"x")], "outside its region"),
        ([(ROM_START, b"text"), (ROM_START + 3, b"data")], "loads 0x08000003 twice"),
    ],
)
def test_what_cannot_be_an_image_is_refused(segments, message):
    with pytest.raises(Invalid, match=message):
        flatten(elf(segments))


@pytest.mark.parametrize("fields", [{"kind": 1}, {"kind": 3}, {"machine": 62}, {"machine": 243}])
def test_object_files_and_other_processors_are_refused(fields):
    with pytest.raises(Invalid, match="not a linked program for a 32-bit little-endian ARM"):
        flatten(elf([(ROM_START, b"text")], **fields))


def test_a_program_of_64_bits_or_big_endian_is_refused():
    for fields in ({"bits": 2}, {"order": 2}, {"bits": 9}, {"order": 9}):
        with pytest.raises(Invalid):
            flatten(elf([(ROM_START, b"text")] * 3, **fields))


def test_a_cut_off_program_is_refused():
    whole = elf([(ROM_START, b"text" * 9)])
    for length in range(4, len(whole)):
        with pytest.raises(Invalid):
            flatten(whole[:length])


@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_program_is_refused_or_laid_out_and_nothing_else_happens(changes):
    damaged = bytearray(EXAMPLE)
    for place, value in changes:
        damaged[place] = value
    with contextlib.suppress(Invalid):
        assert len(flatten(bytes(damaged))) <= 1 << 20


def test_a_bin_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "firmware.bin"
    path.write_bytes(b"\0\0\2\x20 anything")
    assert load_firmware(path) == b"\0\0\2\x20 anything"


def test_an_elf_file_is_told_by_its_content(tmp_path):
    """Build systems name them .elf, .axf, .out, or not at all; a .bin that is one was never meant to be flashed."""
    for name in ("firmware.elf", "firmware.axf", "firmware", "firmware.bin"):
        path = tmp_path / name
        path.write_bytes(elf([(ROM_START, b"text")]))
        assert load_firmware(path) == b"text"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.elf", b"not elf", "is not an ELF file, though"),
        ("a.hex", b":00000001FF", "objcopy -O binary"),
        ("a.bin", b"", "is empty"),
        ("a.bin", bytes((1 << 20) + 1), "does not fit its region"),
        ("a.txt", b"hello", "neither an ELF file nor named .bin"),
        ("a.elf", b"\x7fELF", "damaged"),
    ],
)
def test_a_file_that_is_refused_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Invalid, match=message) as refused:
        load_firmware(path)
    assert str(path) in refused.value.detail


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        load_firmware(tmp_path / "nowhere.elf")


def linked(segments, sections, *, stripped=False):
    """Write an ELF program byte by byte: segments are (file place, address, bytes in the file), sections (place, size)."""
    table = b"".join(
        struct.pack("<8L", 1, place, 0x20000000, address, size, size, 5, 4) for place, address, size in segments
    )
    body = (bytes(52) + table).ljust(0x100, b"\xee") + bytes(range(64)) * 4
    listed = [(0, 0, 0, 0), *((1, 2, place, size) for place, size in sections), (8, 2, 0x180, 0x1000), (3, 0, 0x34, 9)]
    heads = b"".join(
        struct.pack("<10L", 0, kind, flags, 0, place, size, 0, 0, 4, 0) for kind, flags, place, size in listed
    )
    counts = (0, 0) if stripped else (len(body), len(listed))
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    head = ident + struct.pack("<2H5L6H", 2, 40, 1, 0, 52, counts[0], 0, 52, 32, len(segments), 40, counts[1], 0)
    return head + body[52:] + (b"" if stripped else heads)


CONTENT = (bytes(range(64)) * 4)[:0x80]


def test_a_segment_that_begins_at_the_files_own_header_is_cut_to_its_sections():
    """A linker that aligns to pages lets the first segment begin at the file's first byte."""
    data = linked([(0, ROM_START - 0x100, 0x180)], [(0x100, 0x40), (0x140, 0x40)])
    assert flatten(data) == CONTENT


def test_a_segment_without_any_section_has_no_content():
    data = linked([(0, ROM_START, 0x54), (0x100, ROM_START, 0x80)], [(0x100, 0x80)])
    assert flatten(data) == CONTENT


def test_a_stripped_program_is_cut_to_what_its_headers_leave():
    data = linked([(0, ROM_START - 0x54, 0x180)], [], stripped=True)
    assert flatten(data) == data[0x54:0x180]
    assert data[:0x34] not in flatten(data)


def test_segments_that_show_the_same_bytes_again_and_again_are_refused_before_they_are_copied():
    data = linked([(0x100, ROM_START, 0x80)] * 6, [], stripped=True)
    with pytest.raises(Invalid, match="twice"):
        flatten(data)
