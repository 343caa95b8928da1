"""What a native device should do, as its offer says."""

import pytest

from fleetvisor.channel.native.desired import desired_of
from fleetvisor.features.devices.offers import Offer, OpenUpdate, Target
from fleetvisor.protocol.native import DesiredApp, DesiredLayer, DesiredLogging, Policy

TARGET = Target("KA1", "a" * 64, 7)
FLASHED = DesiredLayer("b" * 64, 10, "c" * 64, "internal", 0, 4096)
FILE = DesiredLayer("b" * 64, 10, None, None, None, None)


def update(app_sid="KA1"):
    return OpenUpdate(3, app_sid, "forced", cancel_requested=False, waits_for_consent=False)


def test_nothing_to_do_is_an_interval_and_no_app():
    desired = desired_of(Offer(60), ())
    assert (desired.app, desired.restart, desired.poll_interval_s) == (None, 0, 60)
    assert desired.logging == DesiredLogging(enabled=False, until=None)
    assert desired.policy == Policy()


def test_a_target_names_its_layers_its_manifest_and_the_update_to_it():
    desired = desired_of(Offer(60, target=TARGET, update=update(), check_in_s=5), (FLASHED,))
    assert desired.app == DesiredApp("KA1", "a" * 64, 3, (FLASHED,), 7)
    assert desired.policy == Policy(0, 0, 5)


def test_a_file_that_is_no_bundle_has_no_manifest():
    app = desired_of(Offer(60, target=TARGET, update=update()), (FILE,)).app
    assert app is not None
    assert app.manifest is None


@pytest.mark.parametrize("open_update", [None, update("KA2")])
def test_an_update_to_another_app_is_not_offered(open_update):
    app = desired_of(Offer(60, target=TARGET, update=open_update), (FLASHED,)).app
    assert app is not None
    assert app.update is None


def test_a_target_without_layers_is_none():
    assert desired_of(Offer(60, target=TARGET, update=update()), ()).app is None
