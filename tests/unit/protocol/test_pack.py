"""protocol/pack: the packer, from firmware bytes to a bundle."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import corpus

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import bundle, manifest, pack, signing

LIMITS = Limits()
FIRMWARE = b"firmware " * 99


def read(data):
    """Give the manifest of a bundle, decoded, and the names of its entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return manifest.decode(archive.read("manifest"), LIMITS), archive.namelist()


def test_the_default_bundle_is_the_original_packers():
    """One layer over all of internal flash, unsigned, and every policy 0."""
    decoded, names = read(pack.pack(FIRMWARE))
    (layer,) = decoded.layers
    assert names == ["manifest", layer.digest]
    assert (layer.region, layer.region_start, layer.region_size) == ("internal", 0, 0x100000)
    assert decoded.policies == manifest.Policies()
    assert not decoded.signed


def test_every_option_reaches_its_field():
    decoded, _ = read(
        pack.pack(
            FIRMWARE,
            start=0x1000,
            size=0x2000,
            debug_key=corpus.POINT,
            connection_grace_time_s=1,
            minimum_check_in_time_s=2,
            politeness_s=3,
            minimum_kernel_version=4,
            sign_key=corpus.KEY,
        )
    )
    (layer,) = decoded.layers
    assert (layer.region_start, layer.region_size) == (0x1000, 0x2000)
    assert decoded.policies == manifest.Policies(
        connection_grace_s=1, check_in_s=2, politeness_s=3, minimum_kernel_version=4, debug_key=corpus.POINT
    )
    assert signing.verify(corpus.KEY.public_key(), decoded.body, decoded.signature)


def test_packing_twice_gives_the_same_bytes():
    """The bundle of a firmware is a function of it: a build can be compared with what was uploaded."""
    options = {"debug_key": corpus.POINT, "sign_key": corpus.KEY}
    assert pack.pack(FIRMWARE, **options) == pack.pack(FIRMWARE, **options)


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 3000), st.integers(0, 3000))
def test_what_is_packed_is_parsed(tmp_path_factory, firmware, start, rest):
    spool = tmp_path_factory.mktemp("spool")
    data = pack.pack(firmware, start=start, size=len(firmware) + rest)
    (layer,) = bundle.parse(io.BytesIO(data), spool, LIMITS).layers
    assert layer.path.read_bytes() == firmware


def test_firmware_may_fill_its_region_and_no_more():
    pack.pack(b"x" * 4096, size=4096)
    with pytest.raises(Invalid, match="4097 bytes and does not fit its region of 4096"):
        pack.pack(b"x" * 4097, size=4096)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start must be from 0"),
        ({"size": -1}, "size must be from 0"),
        ({"start": 1}, "leaves the internal flash"),
        ({"size": 2**32 - 1}, "leaves the internal flash"),
        ({"size": 2**32}, "size must be from 0"),
        ({"politeness_s": 2**32}, "politeness must be from 0"),
        ({"connection_grace_time_s": -5}, "connection grace time must be"),
        ({"minimum_check_in_time_s": 2**40}, "minimum check-in time must be"),
        ({"minimum_kernel_version": 2**32}, "minimum kernel version must be"),
        ({"debug_key": b"\x04" + bytes(64)}, "debug_auth_pubkey is not"),
    ],
)
def test_what_no_server_would_take_is_not_packed(options, message):
    with pytest.raises(Invalid, match=message):
        pack.pack(FIRMWARE, **options)


def test_empty_firmware_is_not_packed():
    with pytest.raises(Invalid, match="empty"):
        pack.pack(b"")


def test_equal_layers_become_one_entry():
    _, names = read(corpus.bundle_of([(b"same", "internal", 0, 4), (b"same", "external", 0, 4)]))
    assert len(names) == 2
