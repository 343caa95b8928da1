"""protocol/bundle: the whole corpus, and what a good bundle gives."""

import hashlib
import io
import shutil
import subprocess
import time
import tracemalloc

import pytest
from tests import corpus, rawzip
from tests.rawzip import Raw

from fleetvisor.ground.errors import Invalid, TooLarge
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import bundle

LIMITS = Limits()
MEMORY_BYTES_MAX = 2 << 20
SECONDS_MAX = 5


def parse(data, spool, limits=LIMITS):
    return bundle.parse(io.BytesIO(data), spool, limits)


def test_every_good_bundle_is_taken_and_its_layers_are_what_it_says(tmp_path):
    for name, data in corpus.good():
        parsed = parse(data, tmp_path)
        assert parsed.manifest_hash == hashlib.sha256(parsed.manifest).hexdigest(), name
        for layer in parsed.layers:
            content = layer.path.read_bytes()
            assert layer.path.parent == tmp_path, name
            assert hashlib.sha256(content).hexdigest() == layer.digest, name
            assert len(content) == layer.size_bytes <= layer.region_size, name
            measured = hashlib.sha256(content.ljust(layer.region_size, b"\xff")).hexdigest()
            assert measured == layer.measurement or layer.encrypted_with_key_id, name


@pytest.mark.slow
def test_every_malformed_bundle_is_refused_in_bounded_time_and_memory_and_leaves_no_file(tmp_path):
    """Only Invalid comes out; the message is a sentence that names the entry, or the zip itself."""
    names = set()
    for name, data in corpus.malformed():
        assert name not in names, f"two kinds are named {name}"
        names.add(name)
        tracemalloc.start()
        began = time.monotonic()
        try:
            with pytest.raises(Invalid) as refused:
                parse(data, tmp_path)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert refused.value.status == 400, name
        assert refused.value.detail.startswith(("Entry '", "The zip", "The file")), name
        assert refused.value.detail.endswith("."), name
        assert refused.value.detail.isprintable(), name
        assert len(refused.value.detail) < 300, name
        assert peak < MEMORY_BYTES_MAX, f"{name}: {peak} bytes"
        assert time.monotonic() - began < SECONDS_MAX, name
        assert not list(tmp_path.iterdir()), name
    assert len(names) > 250


REASONS = {
    "text": "not a zip",
    "cut-off-at-100": "not a zip, or is cut off",
    "trailing-byte": "goes on behind its end record",
    "leading-data": "central directory does not lie where",
    "bomb-says-it-is-small": "inflates to more than the 920 bytes its header says",
    "bomb-says-what-it-is": "does not fit the region",
    "manifest-is-a-bomb": "more than the 65536 allowed",
    "twenty-thousand-entries": "20000 entries, more than the 64 allowed",
    "traversal": "'../../etc/passwd': leads out of the bundle",
    "absolute-path": "'/etc/passwd': has an absolute path",
    "foreign-name": "'README.txt': is no name in a bundle",
    "layer-that-nothing-names": "no layer of the manifest names it",
    "manifest-twice": "'manifest': stands in the zip twice",
    "layer-is-a-symlink": "is a symbolic link",
    "layer-is-a-directory": "is a directory",
    "folder": "'folder/': is a directory",
    "layer-is-encrypted": "is encrypted",
    "compression-method-12": "compression method 12",
    "local-header-lies-about-name": "disagree about its name",
    "local-header-lies-about-crc": "disagree about its CRC-32",
    "bad-crc": "CRC-32 is wrong",
    "entries-overlap": "overlaps entry 'manifest'",
    "entry-inside-another": "overlaps entry 'manifest'",
    "descriptor-is-missing": "data descriptor is missing",
    "zip64-end-record": "zip64",
    "zip64-python": "zip64",
    "second-disk": "one disk of a zip of several",
    "manifest-is-empty": "'manifest': is empty",
    "manifest-is-garbage": "not an OpaqueManifest",
    "body-is-garbage": "not an AppBody",
    "no-layers": "names no layer",
    "no-manifest": "'manifest': is missing",
    "layer-is-missing": "is missing, but layer 0 of the manifest names it",
    "layer-has-other-bytes": "SHA-256 of its bytes",
    "measurement_hash-is-wrong": "measurement_hash of layer 0",
    "region-is-missing": "layer 0: has no target region",
    "internal_flash-region-of-four-gigabytes": "leaves the internal flash of 1048576 bytes",
    "regions-overlap-one-byte": "regions of layers 0 and 1 overlap",
    "debug-key-off-the-curve": "debug_auth_pubkey is not an uncompressed point",
    "crash-key-off-the-curve": "crash_report_pubkey is not an uncompressed point",
    "signer-without-signature": "has no signature",
    "signature-without-signer": "no signer_id",
    "signature-short": "63 bytes",
    "signature-r-is-the-order": "below the order",
}


@pytest.mark.slow
def test_a_refusal_names_the_rule_that_was_broken(tmp_path):
    """A bundle refused for another reason than its fault would prove nothing about the rule."""
    found = {name: data for name, data in corpus.malformed() if name in REASONS}
    assert REASONS.keys() == found.keys()
    for name, reason in REASONS.items():
        with pytest.raises(Invalid) as refused:
            parse(found[name], tmp_path)
        assert reason in refused.value.detail, name


def test_a_bundle_gives_its_policies_its_signer_and_its_debug_key(tmp_path):
    data = corpus.simple_bundle(
        sign_key=corpus.KEY,
        debug_key=corpus.POINT,
        politeness_s=1,
        connection_grace_time_s=2,
        minimum_check_in_time_s=3,
        minimum_kernel_version=4,
    )
    parsed = parse(data, tmp_path)
    assert (parsed.politeness_s, parsed.connection_grace_s, parsed.check_in_s) == (1, 2, 3)
    assert (parsed.minimum_kernel_version, parsed.debug_key) == (4, corpus.POINT)
    assert parsed.signed
    assert parsed.signer_id


def test_an_unsigned_bundle_has_no_signer(tmp_path):
    parsed = parse(corpus.simple_bundle(), tmp_path)
    assert (parsed.signed, parsed.signer_id, parsed.debug_key) == (False, 0, None)


def test_layers_come_in_the_order_of_the_manifest(tmp_path):
    places = [(b"c", "internal", 8, 4), (b"a", "external", 0, 4), (b"b", "internal", 0, 4)]
    parsed = parse(corpus.bundle_of(places), tmp_path)
    assert [
        (layer.path.read_bytes(), layer.region, layer.region_start, layer.region_size) for layer in parsed.layers
    ] == places


def test_layers_with_the_same_bytes_share_one_file(tmp_path):
    parsed = parse(corpus.bundle_of([(b"same", "internal", 0, 4), (b"same", "external", 0, 8)]), tmp_path)
    first, second = parsed.layers
    assert first.path == second.path
    assert first.measurement != second.measurement
    assert len(list(tmp_path.iterdir())) == 1


def test_two_uploads_of_one_bundle_may_share_a_spool(tmp_path):
    """Neither finds, overwrites or removes the other's files."""
    one, other = parse(corpus.simple_bundle(), tmp_path), parse(corpus.simple_bundle(), tmp_path)
    assert one.layers[0].path != other.layers[0].path


def test_an_encrypted_layer_is_taken_at_its_word_for_the_measurement_only(tmp_path):
    """Only the device can decrypt, so only it can measure; the bytes themselves are proved all the same."""
    parsed = parse(dict(corpus.good())["layer-is-encrypted"], tmp_path)
    assert parsed.layers[0].encrypted_with_key_id == 5
    assert parsed.layers[0].measurement == "00" * 32


def test_a_file_above_the_bound_of_uploads_is_too_large_rather_than_invalid(tmp_path):
    with pytest.raises(TooLarge):
        parse(corpus.simple_bundle(), tmp_path, Limits(bundle_bytes_max=100))


def test_the_entries_share_one_budget_whatever_their_headers_say(tmp_path):
    """Both layers are honest and fit their regions; together with the manifest they are one byte too much."""
    data = corpus.bundle_of([(b"a" * 500, "internal", 0, 500), (b"b" * 500, "internal", 500, 500)])
    all_bytes = 1000 + len(parse(data, tmp_path).manifest)
    parse(data, tmp_path, Limits(bundle_inflated_bytes_max=all_bytes))
    before = set(tmp_path.iterdir())
    with pytest.raises(Invalid, match="inflate to more than is allowed in all"):
        parse(data, tmp_path, Limits(bundle_inflated_bytes_max=all_bytes - 1))
    assert set(tmp_path.iterdir()) == before


def test_a_large_bundle_takes_little_memory(tmp_path):
    """16 MiB of external flash, inflated and measured in blocks."""
    data = corpus.bundle_of([(bytes(16 << 20), "external", 0, 16 << 20)])
    source = io.BytesIO(data)
    tracemalloc.start()
    try:
        bundle.parse(source, tmp_path, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_a_disk_that_is_full_leaves_no_file(tmp_path):
    """Not the bundle's fault: the error passes, but what was begun is removed."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if list(tmp_path.iterdir()):
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises(OSError, match="the disk is gone"):
        bundle.parse(Failing(corpus.simple_bundle()), tmp_path, LIMITS)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("zip") is None, reason="the zip command is not installed")
@pytest.mark.parametrize("options", ["", "-0", "-9", "-fd", "-X"])
@pytest.mark.parametrize("piped", [False, True])
def test_what_the_zip_command_makes_is_taken(tmp_path, options, piped):
    """A user without our packer zips a manifest and its layer by hand."""
    folder, spool = tmp_path / "in", tmp_path / "spool"
    folder.mkdir()
    spool.mkdir()
    (folder / "manifest").write_bytes(corpus.manifest())
    (folder / corpus.DIGEST.decode()).write_bytes(corpus.FIRMWARE)
    out = "-" if piped else "out.zip"
    command = ["zip", "-q", *options.split(), out, "manifest", corpus.DIGEST.decode()]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    data = done.stdout if piped else (folder / out).read_bytes()
    assert parse(data, spool).layers[0].path.read_bytes() == corpus.FIRMWARE


def test_a_name_never_reaches_the_file_system(tmp_path):
    """Even an entry that the rules refuse late is never written under a name of its own."""
    spool = tmp_path / "deep" / "spool"
    spool.mkdir(parents=True)
    for name in (b"../escaped", b"..", b".", b"manifest/../x"):
        with pytest.raises(Invalid):
            parse(rawzip.write([*corpus.entries(), Raw(name, b"x")]), spool)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "spool"]
