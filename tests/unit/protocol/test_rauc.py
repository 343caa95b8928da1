"""RAUC bundles: told by their end, their manifest read from the signature, and every way in which one can be wrong."""

import hashlib
import io
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import yardstick
from tests.images import cms, signer
from tests.images import rauc as bundle

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import rauc


def read(data):
    return rauc.read(io.BytesIO(data), len(data))


def recognised(data):
    return rauc.is_rauc(io.BytesIO(data), len(data))


@pytest.mark.parametrize("kind", ["plain", "verity"])
def test_what_the_rauc_tool_makes_is_read(tmp_path, kind):
    if shutil.which("rauc") is None or shutil.which("mksquashfs") is None:
        pytest.skip("rauc or mksquashfs is not installed (scripts/test gets them where it can)")
    certificate, key = signer()
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "rootfs.img").write_bytes(hashlib.shake_128(b"incompressible").digest(40_000))
    (folder / "manifest.raucm").write_text(
        f"[update]\ncompatible=board-a\nversion=2026.11\n[bundle]\nformat={kind}\n[image.rootfs]\nfilename=rootfs.img\n"
    )
    command = ["rauc", "bundle", "--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem", folder,
               tmp_path / "out.raucb"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data = (tmp_path / "out.raucb").read_bytes()
    assert recognised(data)
    stated = ("board-a", "2026.11") if kind == "verity" else (None, None)
    assert read(data) == rauc.Bundle(kind, *stated)


@pytest.mark.parametrize("kind", ["verity", "crypt"])
def test_a_signed_manifest_is_read(kind):
    data = bundle(kind=kind, compatible="board\\sb", version="2.0")
    assert recognised(data)
    assert read(data) == rauc.Bundle(kind, "board b", "2.0")


def test_a_plain_bundle_is_only_recognised():
    assert recognised(bundle(kind="plain"))
    assert read(bundle(kind="plain")) == rauc.Bundle("plain")


@pytest.mark.parametrize(
    "data", [b"", b"hsqs", b"x" * 5000, b"hsqs" + b"\0" * 4096, b"a" * 100 + (99).to_bytes(8, "big")]
)
def test_other_files_are_not_recognised(data):
    assert not recognised(data)


def manifest(text):
    return bundle(manifest=text)


SIGNATURE = cms(b"content")
UNSIGNED = bytes.fromhex("302306092a864886f70d010702a01630140201013100300b06092a864886f70d0107013100")
WHOLE = b"[update]\ncompatible=a\n[bundle]\nformat=verity\nverity-size=4096\n"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (manifest(b"compatible"), "manifest is malformed"),
        (manifest(b"\xff\xfe"), "manifest is malformed"),
        (manifest(b"[update]\ncompatible=a\n"), "format=verity or format=crypt"),
        (manifest(WHOLE.replace(b"compatible=a", b"version=1")), "no compatible"),
        (manifest(WHOLE.replace(b"4096", b"4000")), "hash tree of whole blocks"),
        (manifest(WHOLE.replace(b"4096", b"40960000")), "hash tree of whole blocks"),
        (manifest(WHOLE.replace(b"=4096", b"=-1")), "hash tree of whole blocks"),
        (manifest(WHOLE + b"[bundle]\nformat=crypt\n"), "manifest is malformed"),
        (bundle()[4096:], "does not begin with a squashfs"),
        (bundle()[100:], "hash tree of whole blocks"),
        (b"hsqs".ljust(4096) + SIGNATURE[:500] + (500).to_bytes(8, "big"), "signature is malformed"),
        (b"hsqs".ljust(4096) + UNSIGNED + len(UNSIGNED).to_bytes(8, "big"), "no signer"),
    ],
)
def test_a_broken_bundle_is_refused_with_its_rule(data, rule):
    with pytest.raises(Invalid, match=rule):
        read(data)


SIGNED = cms(WHOLE)


@settings(max_examples=200)
@given(st.data())
def test_no_damage_ends_otherwise_than_in_a_refusal(data):
    signature = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 6))):
        signature[data.draw(st.integers(0, len(signature) - 1))] = data.draw(st.integers(0, 255))
    raw = b"hsqs".ljust(8192, b"x") + bytes(signature) + len(signature).to_bytes(8, "big")
    try:
        recognised(raw)
        read(raw)
    except Invalid as refused:
        assert refused.detail


@pytest.mark.parametrize("recipients", [1, 300, 3000])
def test_a_bundle_for_many_recipients_is_read(recipients):
    """Only the head of the structure is looked at, so that the filling may be anything of the right length."""
    inner = bytes.fromhex("0201003100") + b"\x04\x84" + (260 * recipients).to_bytes(4, "big") + bytes(260 * recipients)

    def wrapped(tag, content):
        return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content

    structure = wrapped(0x30, bytes.fromhex("06092a864886f70d010703") + wrapped(0xA0, wrapped(0x30, inner)))
    data = b"x" * 8192 + structure + len(structure).to_bytes(8, "big")
    assert recognised(data)
    assert read(data) == rauc.Bundle("encrypted")


def test_a_signature_over_the_bound_is_told_of_as_that():
    structure = bytes.fromhex("30840020000006092a864886f70d010703") + bytes(0x200000 - 11)
    data = b"hsqs" + structure + len(structure).to_bytes(8, "big")
    assert recognised(data)
    with pytest.raises(Invalid, match="more than the 1048576 allowed"):
        read(data)


def test_a_structure_of_unstated_lengths_is_read_and_its_pieces_are_bounded():
    whole = bundle()
    length = int.from_bytes(whole[-8:], "big")
    payload = whole[: -8 - length]

    def structure(content):
        def open_(tag, inner):
            return bytes([tag, 0x80]) + inner + b"\0\0"

        signed = open_(0x30, bytes.fromhex("06092a864886f70d010701") + open_(0xA0, open_(0x24, content)))
        data = bytes.fromhex("020101310f300d06096086480165030402010500") + signed + b"\x31\x02\x30\x00"
        outer = open_(0x30, bytes.fromhex("06092a864886f70d010702") + open_(0xA0, open_(0x30, data)))
        return payload + outer + len(outer).to_bytes(8, "big")

    told = WHOLE.replace(b"=a", b"=board-a")
    half = len(told) // 2
    pieces = bytes([4, half]) + told[:half] + bytes([4, len(told) - half]) + told[half:]
    assert read(structure(pieces)) == rauc.Bundle("verity", "board-a", None)
    with pytest.raises(Invalid, match="more than 1000 pieces"):
        read(structure(b"\x04\x00" * 2000))


@pytest.mark.parametrize(
    "told",
    [b"[update]\na" + b" " * 65000 + b"b\n", b"[update]\n" + b"a=\n" * 60000, b"[update]\nversion=" + b"\\n" * 100000],
)
def test_no_manifest_takes_long(told):
    data = bundle(manifest=told)

    def refused():
        with pytest.raises(Invalid, match="manifest is malformed"):
            read(data)

    assert yardstick.seconds(refused, 0.1) <= 0.1
