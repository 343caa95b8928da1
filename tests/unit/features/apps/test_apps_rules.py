"""What a proved bundle becomes."""

import io

from tests.bundles import bundle_of

from fleetvisor.features.apps import rules
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.bundle import parse

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
    app = rules.app_of(parsed(tmp_path), app_sid="KA1", account_sid="AC1", unique_name=None, now=5)
    assert app.size_bytes == 12
    assert (app.app_sid, app.account_sid, app.date_created, app.politeness_s) == ("KA1", "AC1", 5, 7)


def test_a_layer_keeps_everything_but_its_place_in_the_spool(tmp_path):
    layers = [rules.layer_of(layer) for layer in parsed(tmp_path).layers]
    assert [(layer.size_bytes, layer.region, layer.region_start, layer.region_size) for layer in layers] == [
        (len(data), region, start, size) for data, region, start, size in PLACES
    ]
    assert layers[0].digest == layers[1].digest != layers[2].digest
