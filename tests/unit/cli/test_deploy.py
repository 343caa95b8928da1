"""How a deployment is judged from what the API says of a device."""

import msgspec
import pytest

from fleetvisor.cli.deploy import Outcome, Watch, judge, told
from fleetvisor.cli.devices import reason, status
from fleetvisor.client.resources import App, Device, DeviceApp, DeviceLogging, DeviceUpdate

APP = App(sid="KA1", unique_name="app-1", hash="sha256:00")


def device(target="KA1", update_status="pending", error_code=0, update=None):
    return Device(
        sid="UV1",
        unique_name="boiler",
        app=DeviceApp(target_sid=target, update_status=update_status, update_error_code=error_code),
        logging=DeviceLogging(),
        update=update,
    )


def downloading(done, total, app="KA1"):
    return DeviceUpdate(number=1, app_sid=app, state="downloading", bytes_done=done, bytes_total=total)


def update_in(state, app="KA1"):
    return DeviceUpdate(number=1, app_sid=app, state=state)


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (device(), Outcome.WAITING),
        (device(update_status="up-to-date"), Outcome.DONE),
        (device(update_status="up-to-date", update=update_in("succeeded")), Outcome.DONE),
        (device(update_status="up-to-date", update=update_in("superseded", app="KA2")), Outcome.DONE),
        (device(update_status="error", error_code=7), Outcome.FAILED),
        (device(target="KA2"), Outcome.FAILED),
        (device(target=None, update_status="up-to-date"), Outcome.FAILED),
    ],
)
def test_it_is_done_only_when_the_device_still_targets_the_app_and_is_up_to_date(seen, outcome):
    assert judge(seen, APP) is outcome


def test_a_device_that_runs_the_app_on_trial_is_not_done():
    """It says `testing` from the new app, and may go back: up-to-date it is called from the first such report on."""
    trial = device(update_status="up-to-date", update=update_in("testing"))
    assert judge(trial, APP) is Outcome.WAITING
    assert told(trial, APP) == "testing"


def test_a_disabled_device_is_not_waited_for():
    """It cannot report before an operator lets it in again."""
    shut_out = msgspec.structs.replace(device(), access="disabled")
    assert judge(shut_out, APP) is Outcome.FAILED
    assert told(shut_out, APP) == "is disabled"
    runs_it = msgspec.structs.replace(device(update_status="up-to-date"), access="disabled")
    assert judge(runs_it, APP) is Outcome.DONE


def test_a_device_is_watched_until_it_is_through():
    watch = Watch(APP, {"UV1": device()})
    watch.take(device(update=downloading(1, 2)))
    assert watch.open == ["UV1"]
    watch.take(device(update_status="up-to-date"))
    assert watch.open == []


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (device(), "pending"),
        (device(update=downloading(1, 4)), "downloading 25%"),
        (device(update=downloading(0, 0)), "downloading"),
        (device(update=downloading(1, 4, app="KA2")), "pending"),
        (device(update_status="up-to-date"), "up-to-date"),
        (device(update_status="error", error_code=7), "error 7: reverted"),
        (device(update_status="up-to-date", update=update_in("testing")), "testing"),
        (device(update_status="up-to-date", update=update_in("testing", app="KA2")), "up-to-date"),
    ],
)
def test_a_devices_state_in_few_words(seen, text):
    assert status(seen) == text


def test_what_is_told_of_a_device_that_was_given_another_target():
    assert told(device(target="KA2"), APP) == "no longer targets this app"


def test_an_error_code_of_a_newer_server_has_no_name():
    assert reason(2) == "hash mismatch"
    assert reason(4711) == "unknown"


def test_the_structs_decode_what_the_api_answers():
    raw = b'{"sid":"UV1","app":{"update_status":"pending"},"logging":{"enabled":true},"update":null,"x":1}'
    assert msgspec.json.decode(raw, type=Device).logging.enabled
