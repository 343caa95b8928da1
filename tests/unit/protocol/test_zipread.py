"""protocol/zipread: the reader alone, beyond what the corpus shows through whole bundles."""

import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import rawzip
from tests.rawzip import DEFLATED, STORED, Raw, streamed

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import zipread


def contents(data, budget=1 << 30):
    source = io.BytesIO(data)
    left = zipread.Budget(budget)
    return {
        entry.name: b"".join(zipread.inflate(source, entry, left))
        for entry in zipread.read_entries(source, entries_max=64)
    }


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=9).map(str.encode), st.binary(max_size=500), max_size=8),
    st.sampled_from([STORED, DEFLATED]),
    st.booleans(),
    st.binary(max_size=50).filter(lambda comment: b"PK" not in comment),
)
def test_what_is_written_is_read(members, method, stream, comment):
    raws = [streamed(n, c, method=method) if stream else Raw(n, c, method) for n, c in members.items()]
    assert contents(rawzip.write(raws, comment=comment)) == members


@pytest.mark.parametrize("size", [65535, 65536, 65537, 131072, 1 << 20, (1 << 20) + 300])
@pytest.mark.parametrize("fill", [b"\0", b"ab", bytes(range(256))])
def test_a_deflate_stream_that_ends_on_a_block_boundary_is_whole(size, fill):
    """The last bytes may still be inside the inflater when all its input is taken in."""
    content = (fill * size)[:size]
    assert contents(rawzip.write([Raw(b"x", content)]))[b"x"] == content


def test_blocks_are_never_larger_than_64_kib():
    source = io.BytesIO(rawzip.write([Raw(b"x", bytes(10 << 20)), Raw(b"y", bytes(1 << 20), STORED)]))
    for entry in zipread.read_entries(source, entries_max=64):
        sizes = [len(block) for block in zipread.inflate(source, entry, zipread.Budget(1 << 30))]
        assert max(sizes) == 64 * 1024


def test_a_lie_costs_at_most_one_block():
    """An entry that says 10 bytes is stopped in the block that passes them, not after its 66 MiB."""
    packed = rawzip.deflate(bytes(66 << 20), level=1)
    lie = {"size": 10}
    source = io.BytesIO(rawzip.write([Raw(b"x", b"", data=packed, local=lie, central=lie)]))
    (entry,) = zipread.read_entries(source, entries_max=64)
    budget = zipread.Budget(1 << 30)
    with pytest.raises(Invalid, match="more than the 10 bytes"):
        list(zipread.inflate(source, entry, budget))
    assert source.tell() <= entry.data_start + zipread.BLOCK_BYTES


def test_the_budget_is_shared_by_all_entries():
    data = rawzip.write([Raw(b"x", bytes(600)), Raw(b"y", bytes(600))])
    assert len(contents(data, budget=1200)) == 2
    with pytest.raises(Invalid, match="Entry 'y': the entries"):
        contents(data, budget=1199)


def test_the_number_of_entries_is_refused_before_the_directory_is_read():
    """20,000 central headers must not cost more than their count."""

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            data = super().read(size)
            self.taken += len(data)
            return data

    source = Counting(rawzip.write([Raw(f"{n:064}".encode(), b"", STORED) for n in range(20_000)]))
    with pytest.raises(Invalid, match="20000 entries"):
        zipread.read_entries(source, entries_max=64)
    assert source.taken <= 65536 + 22


def test_a_stored_entry_may_hold_anything_that_looks_like_a_zip():
    """Nested archives, headers and end records inside an entry are data."""
    inner = rawzip.write([streamed(b"inner", b"content")], comment=b"PK\x05\x06")
    assert contents(rawzip.write([Raw(b"x", inner, STORED)])) == {b"x": inner}


def test_a_descriptor_whose_crc_looks_like_its_signature_is_read():
    """Without a signature the four bytes of the CRC come first; they may be PK 7 8 by chance."""
    target = int.from_bytes(b"PK\x07\x08", "little")
    content = _with_crc32(b"some firmware", target)
    assert zlib.crc32(content) == target
    for signature in (True, False):
        assert contents(rawzip.write([streamed(b"x", content, signature=signature)])) == {b"x": content}


def _with_crc32(data, target):
    """Append the four bytes that give ``data`` the CRC-32 wanted: CRC is linear, so 32 equations solve it."""
    base = zlib.crc32(data + bytes(4))
    columns = [zlib.crc32(data + (1 << bit).to_bytes(4, "little")) ^ base for bit in range(32)]
    rows = [(column, 1 << bit) for bit, column in enumerate(columns)]
    wanted, chosen = base ^ target, 0
    for bit in range(32):
        pivot = next(place for place, (column, _) in enumerate(rows) if column >> bit & 1)
        column, mask = rows.pop(pivot)
        rows = [(c ^ column, m ^ mask) if c >> bit & 1 else (c, m) for c, m in rows]
        if wanted >> bit & 1:
            wanted, chosen = wanted ^ column, chosen ^ mask
    return data + chosen.to_bytes(4, "little")


def test_names_are_shown_harmless_and_short():
    assert zipread.label(b"plain") == "Entry 'plain'"
    shown = zipread.label(b"\x1b[31m\n\0\xff" + b"n" * 9000)
    assert shown.isprintable()
    assert len(shown) < 120


@given(st.binary(max_size=400))
def test_garbage_is_refused_and_nothing_else_happens(data):
    with pytest.raises(Invalid):
        contents(data)


def test_zipfile_agrees_on_what_a_plain_zip_holds():
    data = rawzip.write([Raw(b"x", b"one"), streamed(b"y", b"two")])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name.encode(): archive.read(name) for name in archive.namelist()} == contents(data)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 200_000])
@pytest.mark.parametrize("more", [b"x", b"x" * 1400, b"\x03\x00" * 50_000])
def test_bytes_behind_the_end_of_a_deflate_stream_end_the_reading(size, more):
    """They lie in ``unconsumed_tail`` for ever when the last block was full: once this never ended."""
    content = bytes(size)
    data = rawzip.write([Raw(b"x", content, data=rawzip.deflate(content) + more)])
    with pytest.raises(Invalid, match="more data behind the end"):
        contents(data)


class Stuck:
    """An inflater that neither takes nor gives, as none should."""

    eof = False
    unused_data = b""

    def decompress(self, data, _max):
        self.unconsumed_tail = data
        return b""


def test_an_inflater_that_neither_takes_nor_gives_ends_the_reading():
    entry = zipread.read_entries(io.BytesIO(rawzip.write([Raw(b"x", b"y")])), entries_max=1)[0]
    with pytest.raises(Invalid, match="is damaged"):
        list(zipread._drained(Stuck(), b"data", entry))


def test_a_comment_full_of_end_records_is_refused_at_once():
    comment = (b"PK\x05\x06" * 16383)[:65532]
    with pytest.raises(Invalid, match="more than one end record"):
        contents(rawzip.write([Raw(b"x", b"y")], comment=comment))
