"""protocol/manifest: the wire format as numbers, its inverse, and what no layer bytes are needed for.

The refusals are in the corpus too (test_bundle); here stand the format itself and the edges of each rule.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import corpus

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import manifest as manifests
from fleetvisor.protocol import signing
from fleetvisor.protocol.manifest import LayerReference, Policies

LIMITS = Limits()
FETCH, MEASURED = bytes(range(32)), bytes(range(32, 64))


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number(tag, value):
    return varint(tag << 3) + varint(value)


def text(tag, value):
    return varint(tag << 3 | 2) + varint(len(value)) + value


def test_every_field_stands_at_its_published_number():
    """NOTE: written by hand from the reference. If this fails, the wire format was changed: change it back."""
    internal = text(1, text(1, number(1, 0x1000) + number(2, 0x2000))) + text(3, FETCH) + text(4, MEASURED)
    external = text(1, text(2, number(1, 4) + number(2, 5))) + number(2, 9) + text(3, MEASURED) + text(4, FETCH)
    body = (
        text(1, internal)
        + text(1, external)
        + text(2, number(1, 1) + text(2, corpus.POINT))
        + text(3, number(1, 1) + number(2, 2) + text(3, corpus.POINT) + number(4, 4))
        + text(4, number(1, 11) + number(2, 12))
        + text(5, number(1, 13) + number(2, 14))
    )
    raw = number(1, 2**64 - 1) + text(2, body) + text(3, b"\x01" * 64)
    decoded = manifests.decode(raw, LIMITS)
    assert decoded.raw == raw
    assert decoded.hash == hashlib.sha256(raw).hexdigest()
    assert decoded.body == body
    assert (decoded.signer_id, decoded.signature, decoded.signed) == (2**64 - 1, b"\x01" * 64, True)
    assert decoded.layers == (
        LayerReference(
            digest=FETCH.hex(), measurement=MEASURED.hex(), region="internal", region_start=0x1000, region_size=0x2000
        ),
        LayerReference(
            digest=MEASURED.hex(),
            measurement=FETCH.hex(),
            region="external",
            region_start=4,
            region_size=5,
            encrypted_with_key_id=9,
        ),
    )
    assert decoded.policies == Policies(
        politeness_s=11, minimum_kernel_version=12, connection_grace_s=13, check_in_s=14, debug_key=corpus.POINT
    )


def test_what_is_encoded_is_the_published_numbers_too():
    layer = LayerReference(
        digest=FETCH.hex(), measurement=MEASURED.hex(), region="internal", region_start=0, region_size=16
    )
    raw = manifests.encode([layer], Policies(politeness_s=3))
    body = text(1, text(1, text(1, number(2, 16))) + text(3, FETCH) + text(4, MEASURED)) + text(4, number(1, 3))
    assert raw == text(2, body + text(5, b""))


uint32 = st.integers(0, 2**32 - 1)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    places=st.lists(st.tuples(st.sampled_from(["internal", "external"]), digests, digests), min_size=1, max_size=64),
    policies=st.builds(
        Policies,
        politeness_s=uint32,
        connection_grace_s=uint32,
        check_in_s=uint32,
        minimum_kernel_version=uint32,
        debug_key=st.sampled_from([None, corpus.POINT]),
    ),
    signed=st.booleans(),
)
def test_decode_is_the_inverse_of_encode(places, policies, signed):
    layers = tuple(
        LayerReference(digest=one, measurement=other, region=region, region_start=place * 3, region_size=3)
        for place, (region, one, other) in enumerate(places)
    )
    decoded = manifests.decode(manifests.encode(layers, policies, corpus.KEY if signed else None), LIMITS)
    assert (decoded.layers, decoded.policies, decoded.signed) == (layers, policies, signed)
    if signed:
        assert decoded.signer_id == signing.key_id(corpus.KEY.public_key())
        assert signing.verify(corpus.KEY.public_key(), decoded.body, decoded.signature)


def test_fields_from_the_future_are_kept_in_the_body_as_they_came():
    """The body is signed as bytes: parsing and writing it again would drop or move what we do not know."""
    plain = manifests.decode(corpus.manifest(), LIMITS)
    body = text(99, b"new") + plain.body + number(77, 5)
    decoded = manifests.decode(text(88, b"x") + text(2, body), LIMITS)
    assert decoded.body == body
    assert decoded.layers == plain.layers


def test_the_bound_of_the_size_is_the_last_size_allowed():
    def padded(size):
        raw = corpus.manifest()
        return raw + text(99, bytes(size - len(raw) - 5))

    assert len(padded(65536)) == 65536
    manifests.decode(padded(65536), LIMITS)
    with pytest.raises(Invalid, match="more than the 65536 allowed"):
        manifests.decode(padded(65537), LIMITS)


def test_bounds_are_those_of_the_limits_given():
    tight = Limits(internal_flash_bytes=corpus.REGION - 1)
    with pytest.raises(Invalid, match="leaves the internal flash of 65535 bytes"):
        manifests.decode(corpus.manifest(), tight)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(raw):
    """Only Invalid comes out, whatever the bytes; a manifest by chance is as good as impossible."""
    with pytest.raises(Invalid, match="manifest"):
        manifests.decode(raw, LIMITS)


@given(st.binary(max_size=300))
def test_garbage_in_the_body_is_refused_and_nothing_else_happens(body):
    with pytest.raises(Invalid, match="manifest"):
        manifests.decode(text(2, body), LIMITS)
