"""MCUboot images: those of imgtool, and every way in which one can be wrong."""

import io
import struct
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.images import mcuboot as image

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import mcuboot


def read(data):
    return mcuboot.read(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--version", "1.2.3+4"), ("1.2.3+4", None)),
        (("--version", "1.2.3", "--security-counter", "7"), ("1.2.3", 7)),
        (("--version", "9.0.1", "--pad", "--sha", "512"), ("9.0.1", None)),
    ],
)
def test_what_imgtool_signs_is_read(tmp_path, options, expected):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "in.bin").write_bytes(b"\x00\x20\x00\x20" * 500)
    sha512 = "--sha" in options  # which goes with Ed25519 only: left unsigned here
    command = [sys.executable, "-m", "imgtool.main", "sign", *options, "--header-size", "0x200", "--pad-header",
               "--slot-size", "0x10000", "--align", "8", *(() if sha512 else ("--key", str(pem))),
               str(tmp_path / "in.bin"), str(tmp_path / "out.bin")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read((tmp_path / "out.bin").read_bytes())
    assert (found.version, found.security_counter) == expected
    assert found.signed is not sha512


def test_header_version_counter_and_hash_are_read():
    assert read(image(version=(1, 2, 3, 4), counter=9)) == mcuboot.Image("1.2.3+4", 9, signed=False)
    assert read(image(version=(0, 0, 0, 0), header_bytes=512) + b"\xff" * 100).version == "0.0.0"


def area(*tlvs, magic=0x6907):
    body = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in tlvs)
    return struct.pack("<HH", magic, 4 + len(body)) + body


GOOD = image()
HASHED = GOOD[: -(4 + 36)]
DIGEST = GOOD[-32:]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (GOOD[:31], "fewer than the header"),
        (GOOD[:100], "truncated"),
        (GOOD[:-1], "does not fit the file"),
        (GOOD[:8] + b"\x10\x00" + GOOD[10:], "ih_hdr_size"),
        (GOOD[:-1] + b"\x00", "is not the hash"),
        (GOOD[:40] + b"\x99" + GOOD[41:], "is not the hash"),
        (HASHED + b"\x00\x00\x00\x00", "there is no TLV area"),
        (HASHED + area(), "no hash TLV"),
        (HASHED + area((0x10, DIGEST), (0x10, DIGEST)), "more than one hash"),
        (HASHED + area((0x10, DIGEST[:-1])), "not 32"),
        (HASHED + struct.pack("<HH", 0x6907, 4 + 2) + b"\x10\x00", "within a TLV's header"),
        (HASHED + struct.pack("<HHHH", 0x6907, 4 + 4, 0x10, 900), "leaves the TLV area"),
        (GOOD[:10] + b"\x0c\x00" + GOOD[12:], "no protected TLV area"),
    ],
)
def test_a_broken_image_is_refused_with_its_rule(data, rule):
    with pytest.raises(Invalid, match=rule):
        read(data)


def test_an_encrypted_image_is_checked_for_form_only():
    """Its hash is over the plain text, which only the device has."""
    flags = struct.pack("<I", 0x04)
    assert read(GOOD[:16] + flags + GOOD[20:]).version == "1.2.3"


def test_a_pure_signature_stands_for_the_hash():
    assert read(HASHED + area((0x25, b""), (0x24, b"s" * 64))).signed


def test_a_counter_counts_in_the_protected_area_only():
    assert read(HASHED + area((0x10, DIGEST), (0x50, b"\x07\x00\x00\x00"))).security_counter is None


@given(st.data())
def test_no_damage_ends_otherwise_than_in_a_refusal(data):
    raw = bytearray(image(counter=3))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read(cut)
    except Invalid as refused:
        assert refused.detail


@pytest.mark.parametrize("counter", [None, 77])
def test_an_image_in_the_other_byte_order_is_read(counter):
    data = image(version=(1, 2, 3, 45), counter=counter, order=">")
    assert read(data) == mcuboot.Image("1.2.3+45", counter, signed=False)
    spoiled = bytearray(data)
    spoiled[40] ^= 1
    with pytest.raises(Invalid, match="is not the hash"):
        read(bytes(spoiled))


def test_more_tlvs_than_any_image_has_are_refused():
    area = struct.pack("<HH", 0xA0, 0) * 1025
    data = image()[:-40] + struct.pack("<HH", 0x6907, 4 + len(area)) + area
    with pytest.raises(Invalid, match="more than 1024 TLVs"):
        read(data)
