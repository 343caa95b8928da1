"""protocol/verify: the offline check that ``fleetvisor apps verify`` shows."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests import corpus, rawzip

from fleetvisor.protocol import signing, verify
from fleetvisor.protocol.verify import Signature

PUBLIC = corpus.KEY.public_key()
STRANGER = ec.derive_private_key(7, ec.SECP256R1()).public_key()


def check(tmp_path, data, key=None):
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    return verify.verify_bundle(path, key)


def test_a_good_unsigned_bundle_is_reported_whole(tmp_path):
    report = check(tmp_path, corpus.simple_bundle(politeness_s=9, debug_key=corpus.POINT))
    assert (report.ok, report.problem, report.signature, report.signer_id) == (True, None, Signature.ABSENT, None)
    assert report.hash is not None
    assert report.hash.startswith("sha256:")
    (layer,) = report.layers
    assert (layer.digest, layer.size_bytes, layer.measured) == (corpus.DIGEST.decode(), len(corpus.FIRMWARE), True)
    assert (report.politeness_s, report.debug_key) == (9, corpus.POINT.hex())


def test_a_signature_is_good_only_by_the_key_given(tmp_path):
    data = corpus.simple_bundle(sign_key=corpus.KEY)
    report = check(tmp_path, data, PUBLIC)
    assert (report.ok, report.signature) == (True, Signature.GOOD)
    assert report.signer_id == f"{signing.key_id(PUBLIC):016x}"
    report = check(tmp_path, data, STRANGER)
    assert (report.ok, report.signature) == (False, Signature.BY_ANOTHER_KEY)
    assert "another key" in (report.problem or "")


def test_without_a_key_a_signature_is_only_reported(tmp_path):
    """Well-formed and by whomever: the format is kept, and nothing is claimed about the signer."""
    report = check(tmp_path, corpus.simple_bundle(sign_key=corpus.KEY))
    assert (report.ok, report.signature) == (True, Signature.UNCHECKED)


def test_with_a_key_an_unsigned_bundle_is_not_ok(tmp_path):
    report = check(tmp_path, corpus.simple_bundle(), PUBLIC)
    assert (report.ok, report.signature, report.problem) == (False, Signature.ABSENT, "The bundle is not signed.")


def test_a_signature_that_names_the_key_but_is_not_its_is_wrong(tmp_path):
    forged = corpus.manifest(signer_id=signing.key_id(PUBLIC), signature=b"\x01" * 64)
    report = check(tmp_path, rawzip.write(corpus.entries(forged)), PUBLIC)
    assert (report.ok, report.signature) == (False, Signature.WRONG)


@pytest.mark.slow
def test_the_first_broken_rule_is_the_problem(tmp_path):
    report = check(tmp_path, dict(corpus.malformed())["regions-overlap-same"], PUBLIC)
    assert not report.ok
    assert report.problem == "Entry 'manifest': the regions of layers 0 and 1 overlap."
    assert report.signature is None


def test_an_encrypted_layer_is_marked_as_not_measured(tmp_path):
    report = check(tmp_path, dict(corpus.good())["layer-is-encrypted"])
    assert report.ok
    assert not report.layers[0].measured


def test_a_file_that_is_not_there_is_a_problem_in_words(tmp_path):
    report = verify.verify_bundle(tmp_path / "nowhere.zip")
    assert not report.ok
    assert "No such file" in (report.problem or "")


def test_a_check_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where the process puts temporary files
    check(tmp_path, corpus.simple_bundle())
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.zip"]
