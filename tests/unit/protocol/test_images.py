"""Firmware files told apart by their content, and hashed."""

import hashlib

import pytest
from tests import bundles
from tests import images as made

from fleetvisor.ground.errors import Invalid, TooLarge
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import images

FILES = {
    "bundle": bundles.simple_bundle(b"x"),
    "swupdate": made.swu(),
    "rauc": made.rauc(),
    "mcuboot": made.mcuboot(counter=5),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_told_by_its_content(tmp_path, kind):
    file = tmp_path / "firmware.anything"
    file.write_bytes(FILES[kind])
    assert images.recognise(file) == kind


@pytest.mark.parametrize("content", [b"", b"x", b"P", b"07070", b"\x7fELF" + b"\0" * 100])
def test_other_content_has_no_kind(tmp_path, content):
    file = tmp_path / "x"
    file.write_bytes(content)
    assert images.recognise(file) is None


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("swupdate", images.Stated(version="1.0", hardware_compatibility=("1.0",))),
        ("rauc", images.Stated(version="2026.1", hardware_class="board-a", signed=True)),
        ("mcuboot", images.Stated(version="1.2.3", security_counter=5)),
        ("raw", images.Stated()),
    ],
)
def test_a_file_is_proved_and_hashed(tmp_path, kind, stated):
    content = FILES.get(kind, b"anything")
    file = tmp_path / "x"
    file.write_bytes(content)
    found = images.parse(file, kind, Limits())
    assert (found.kind, found.size_bytes, found.stated) == (kind, len(content), stated)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.sha1 == hashlib.sha1(content).hexdigest()
    assert found.md5 == hashlib.md5(content).hexdigest()


def test_empty_large_and_oddly_named_files_are_refused(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"")
    with pytest.raises(Invalid, match="empty"):
        images.parse(file, "raw", Limits())
    file.write_bytes(b"12345")
    with pytest.raises(TooLarge, match="more than the 4 allowed"):
        images.parse(file, "raw", Limits(firmware_bytes_max=4))
    file.write_bytes(made.swu(version="v" * 129))
    with pytest.raises(Invalid, match="version in the file must have 1 to 128"):
        images.parse(file, "swupdate", Limits())
