"""Bundles by chance: whatever the bytes, a bundle is proved or refused, and nothing else happens."""

import hashlib
import io
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests import corpus, rawzip

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import bundle

pytestmark = pytest.mark.slow

LIMITS = Limits()
GOOD = [data for name, data in corpus.good() if name != "layer-of-zeros" and len(data) < 5000]


def judge(data):
    """Parse ``data`` and hold what comes out against what the format promises; tell whether it was taken."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder)
        try:
            parsed = bundle.parse(io.BytesIO(data), spool, LIMITS)
        except Invalid:
            assert not list(spool.iterdir())
            return False
        assert parsed.manifest_hash == hashlib.sha256(parsed.manifest).hexdigest()
        assert {layer.path for layer in parsed.layers} == set(spool.iterdir())
        # Another reader, which believes the central directory alone, sees the very same bundle.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert set(archive.namelist()) == {"manifest", *(layer.digest for layer in parsed.layers)}
            assert archive.read("manifest") == parsed.manifest
            for layer in parsed.layers:
                content = layer.path.read_bytes()
                assert content == archive.read(layer.digest)
                assert hashlib.sha256(content).hexdigest() == layer.digest
                if not layer.encrypted_with_key_id:
                    padded = content.ljust(layer.region_size, b"\xff")
                    assert hashlib.sha256(padded).hexdigest() == layer.measurement
        return True


@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(data):
    assert not judge(data)


@st.composite
def damaged(draw):
    """Draw a good bundle with some bytes changed, dropped, doubled or put in."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(["set", "flip", "drop", "double", "insert", "number"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=40))
            case "number":
                number = draw(st.sampled_from([0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]))
                data[at : at + 4] = number.to_bytes(4, "little")
            case _:
                pass
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_a_damaged_bundle_is_proved_or_refused(data):
    judge(data)


def test_the_undamaged_ones_are_taken():
    """Else the tests here would prove nothing."""
    assert all(judge(data) for data in GOOD)


uint16 = st.one_of(st.sampled_from([0, 1, 8, 9, 0x800, 0xFFFF]), st.integers(0, 0xFFFF))
uint32 = st.one_of(st.sampled_from([0, 1, 0xFFFFFFFF]), st.integers(0, 2000), st.integers(0, 0xFFFFFFFF))
lies = st.fixed_dictionaries(
    {},
    optional={
        "flags": uint16,
        "method": uint16,
        "crc": uint32,
        "packed": uint32,
        "size": uint32,
        "name": st.one_of(st.just(b"manifest"), st.just(corpus.DIGEST), st.binary(max_size=70)),
    },
)
extras = st.one_of(st.just(b""), st.binary(max_size=30), st.just(b"\x01\0\x04\0abcd"))
ends = st.fixed_dictionaries(
    {}, optional={"count": uint16, "count_here": uint16, "length": uint32, "start": uint32, "comment": uint16}
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(lies, lies, st.booleans(), extras, extras, st.binary(max_size=20)), min_size=2, max_size=2),
    st.one_of(st.just({}), st.fixed_dictionaries({"offset": uint32})),
    st.one_of(st.just({}), ends),
    st.binary(max_size=30),
)
@example([({}, {}, False, b"", b"", b"")] * 2, {}, {}, b"")
def test_headers_that_lie_are_proved_or_refused(changes, offset, end, comment):
    """Well-formed around the lies, so that the rules behind the first ones are reached."""
    entries = []
    for entry, (local, central, stream, local_extra, central_extra, descriptor) in zip(
        corpus.entries(), changes, strict=True
    ):
        made = rawzip.streamed(entry.name, entry.content) if stream else replace(entry, descriptor=descriptor)
        made = replace(made, local=made.local | local, central=central)
        entries.append(replace(made, local_extra=local_extra, central_extra=central_extra))
    entries[1] = replace(entries[1], central=entries[1].central | offset)
    judge(rawzip.write(entries, end=end, comment=comment))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
def test_a_damaged_manifest_in_a_sound_zip_is_proved_or_refused(put, at, dropped):
    """The zip's CRC is made right again, so that only the manifest's own rules stand in the way."""
    raw = bytearray(corpus.manifest())
    raw[at : at + dropped] = put
    judge(rawzip.write(corpus.entries(bytes(raw))))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=50), st.sampled_from(["internal", "external"]), st.integers(0, 30)),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_any_layout_that_keeps_the_rules_is_taken(layers, signed):
    places = [(data, region, place * 100, len(data) + rest) for place, (data, region, rest) in enumerate(layers)]
    assert judge(corpus.bundle_of(places, sign_key=corpus.KEY if signed else None))


def test_an_entry_that_needs_an_unknown_version_of_the_format_is_refused():
    """Found by the fuzz test above: Python's zipfile stops at such an entry, and so must we."""
    data = bytearray(GOOD[0])
    at = data.index(b"PK\x01\x02") + 6
    data[at] = 64
    assert not judge(bytes(data))
    data[at] = 63
    assert judge(bytes(data))
