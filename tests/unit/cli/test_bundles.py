"""``apps bundle`` and ``apps verify``: offline, from firmware to a checked bundle."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleetvisor.cli.main import run

FIRMWARE = Path(__file__).parents[3] / "examples/firmware/blinker-v1.elf"


@pytest.fixture
def keys(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(private), str(public)


def report(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_bundle_that_was_just_made_is_good(tmp_path, capsys):
    bundle = str(tmp_path / "v1.zip")
    assert run(["apps", "bundle", str(FIRMWARE), bundle, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(["apps", "verify", bundle, "--json"]) == 0
    found = report(capsys)
    assert found["ok"]
    assert found["signature"] == "absent"
    assert found["layers"][0]["region_size"] == 1 << 20


def test_every_option_of_the_packer_reaches_the_manifest(tmp_path, keys, capsys):
    private, public = keys
    bundle = str(tmp_path / "v1.zip")
    options = (
        f"--size 0x8000 --debug-key {public} --connection-grace-time 7 --minimum-check-in-time 60 --politeness 30"
        f" --minimum-kernel-version 4 --sign-key {private}"
    )
    assert run(["apps", "bundle", str(FIRMWARE), bundle, "--json", *options.split()]) == 0
    assert report(capsys) == {"bundle": bundle, "size_bytes": Path(bundle).stat().st_size}
    assert run(["apps", "verify", bundle, "--key", public, "--json"]) == 0
    found = report(capsys)
    assert found["signature"] == "good"
    assert found["layers"][0]["region_size"] == 0x8000
    assert found["debug_key"].startswith("04")
    assert (found["connection_grace_s"], found["check_in_s"], found["politeness_s"]) == (7, 60, 30)
    assert found["minimum_kernel_version"] == 4


def test_a_bundle_by_another_key_fails_with_status_1(tmp_path, keys, capsys):
    bundle = str(tmp_path / "v1.zip")
    run(["apps", "bundle", str(FIRMWARE), bundle])
    capsys.readouterr()
    assert run(["apps", "verify", bundle, "--key", keys[1], "--json"]) == 1
    out, err = capsys.readouterr()
    assert not json.loads(out)["ok"]
    assert "not signed" in json.loads(err)["error"]


def test_what_is_no_bundle_fails_with_status_1(tmp_path, capsys):
    (tmp_path / "x.zip").write_text("no zip")
    assert run(["apps", "verify", str(tmp_path / "x.zip")]) == 1
    assert "not a zip" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--size 10", "--size 0x200000", "--start 0x1000", "--sign-key {public}"])
def test_what_cannot_be_packed_fails_with_status_1_and_writes_nothing(options, tmp_path, keys, capsys):
    bundle = tmp_path / "v1.zip"
    line = options.format(public=keys[1]).split()
    assert run(["apps", "bundle", str(FIRMWARE), str(bundle), *line]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    assert not bundle.exists()


@pytest.mark.parametrize("number", ["1e3", "big", ""])
def test_a_size_that_is_no_number_is_status_2(number, tmp_path):
    assert run(["apps", "bundle", str(FIRMWARE), str(tmp_path / "v1.zip"), "--size", number]) == 2
