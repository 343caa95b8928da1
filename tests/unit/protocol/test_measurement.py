"""protocol/measurement: the hash of a region as it reads after install."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.protocol.measurement import measure


@given(st.binary(max_size=300), st.integers(0, 200_000))
def test_a_region_is_measured_with_erased_flash_behind_its_bytes(data, rest):
    whole = hashlib.sha256(data + b"\xff" * rest).hexdigest()
    assert measure(hashlib.sha256(data), len(data), len(data) + rest) == whole


def test_measuring_leaves_the_hash_of_the_bytes_as_it_was():
    """Layers that share their bytes are measured from one running hash, each for its own region."""
    content = hashlib.sha256(b"layer")
    measure(content, 5, 4096)
    assert content.hexdigest() == hashlib.sha256(b"layer").hexdigest()
