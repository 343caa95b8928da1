"""RAUC bundles: told by their end, their manifest read from the signature, and every way in which one can be wrong."""

import hashlib
import io
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
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
