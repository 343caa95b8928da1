"""What a proved bundle becomes."""

import io

import pytest
from tests.bundles import bundle_of

from fleetvisor.features.apps import rules
from fleetvisor.features.apps.model import Upload
from fleetvisor.ground.errors import Conflict, Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.bundle import parse
from fleetvisor.protocol.images import ParsedImage, Stated

PLACES = [(b"same", "internal", 0, 64), (b"same", "external", 0, 64), (b"else", "internal", 64, 64)]


def parsed(tmp_path):
    return parse(io.BytesIO(bundle_of(PLACES, politeness_s=7)), tmp_path, Limits())


def test_the_name_of_bytes_holds_their_digest_and_a_generation():
    """Two generations of the same bytes have different names, in a folder of 256."""
    one, two = rules.blob_name("ab" * 32, "01"), rules.blob_name("ab" * 32, "02")
    assert one == f"layers/ab/{'ab' * 32}-01"
    assert one != two


def test_an_apps_size_is_what_a_device_downloads(tmp_path):
    """Bytes that go to two regions are downloaded for each."""
    app = rules.app_of(parsed(tmp_path), Upload(version="2"), rules.Birth("KA1", "AC1", 5))
    assert app.size_bytes == 12
    assert (app.app_sid, app.account_sid, app.date_created, app.politeness_s) == ("KA1", "AC1", 5, 7)
    assert (app.kind, app.version) == ("bundle", "2")


def test_a_layer_keeps_everything_but_its_place_in_the_spool(tmp_path):
    layers = [rules.content_of(layer).layer for layer in parsed(tmp_path).layers]
    assert [(layer.size_bytes, layer.region, layer.region_start, layer.region_size) for layer in layers] == [
        (len(data), region, start, size) for data, region, start, size in PLACES
    ]
    assert layers[0].digest == layers[1].digest != layers[2].digest


def image(**stated):
    return ParsedImage(kind="rauc", size_bytes=9, sha256="a" * 64, sha1="b", md5="c", stated=Stated(**stated))


def test_what_a_file_states_holds_whatever_the_uploader_says():
    said = Upload("name", "rauc", "9.9", "other")
    app = rules.app_of_image(image(version="1", hardware_class="board"), said, rules.Birth("KA1", "AC1", 5))
    assert (app.version, app.hardware_class, app.unique_name) == ("1", "board", "name")
    app = rules.app_of_image(image(), said, rules.Birth("KA1", "AC1", 5))
    assert (app.version, app.hardware_class, app.manifest_hash) == ("9.9", "other", "a" * 64)


@pytest.mark.parametrize(
    ("found", "asked", "kind"),
    [("bundle", None, "bundle"), ("rauc", "rauc", "rauc"), ("rauc", "raw", "raw"), (None, "raw", "raw")],
)
def test_a_file_is_taken_as_what_it_is_or_as_raw(found, asked, kind):
    assert rules.check_kind(found, asked) == kind


@pytest.mark.parametrize(("found", "asked"), [(None, None), (None, "rauc"), ("bundle", "rauc")])
def test_a_file_is_not_taken_as_what_it_is_not(found, asked):
    with pytest.raises(Invalid, match="Kind"):
        rules.check_kind(found, asked)


def test_only_two_classes_that_differ_refuse_each_other():
    for app_class, device_class in ((None, None), ("a", None), (None, "a"), ("a", "a")):
        rules.check_classes(app_class, device_class)
    with pytest.raises(Conflict, match="'a'.*'b'"):
        rules.check_classes("a", "b")


def test_only_a_lower_security_counter_is_refused():
    for wanted, running in ((None, None), (None, 3), (3, None), (3, 3), (4, 3), (0, 0)):
        rules.check_counter(wanted, running)
    with pytest.raises(Conflict, match="is 2, .* with 3"):
        rules.check_counter(2, 3)
