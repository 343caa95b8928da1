"""The unmodified twilio 9.6.3 client from the package index, against our server over HTTPS: every operation."""

import base64
import hashlib
import ssl
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import twilio
from tests.corpus import simple_bundle
from tests.server import running
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server, and the environment that ``fleetvisor env`` prints for this client."""
    with running(tmp_path_factory.mktemp("twilio") / "data") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", server.ca_file)
        for name in ("TWILIO_EDGE", "TWILIO_REGION"):  # with them the client rewrites every host name
            patch.delenv(name, raising=False)
        yield server


@pytest.fixture(scope="module")
def microvisor(server):
    """The client as a user sets it up: credentials, and one changed URL."""
    http = TwilioHttpClient()
    client = Client(*server.auth, http_client=http)
    client.microvisor.base_url = server.url
    yield client.microvisor.v1
    http.session.close()


@pytest.fixture(scope="module")
def rest(server):
    """What the published API never had: registration, and the upload that people did with curl."""
    with httpx.Client(
        base_url=server.url, auth=server.auth, verify=ssl.create_default_context(cafile=server.ca_file)
    ) as client:
        yield client


def register(rest, name):
    answer = rest.post("/v1/Devices", data={"UniqueName": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def upload(rest, name, firmware):
    files = {"File": ("bundle.zip", simple_bundle(firmware), "application/zip")}
    answer = rest.post("/v1/Apps", files=files, data={"UniqueName": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def is_recent(moment):
    return isinstance(moment, datetime) and abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


def test_the_client_is_the_last_one_that_had_microvisor():
    assert twilio.__version__ == "9.6.3"


def test_devices_are_listed_fetched_and_updated(microvisor, rest):
    made = register(rest, "boiler-7")
    app = upload(rest, "thermostat-1", b"one" * 100)
    by_name = microvisor.devices("boiler-7").fetch()
    by_sid = microvisor.devices(made["sid"]).fetch()
    assert by_name.sid == by_sid.sid == made["sid"]
    assert is_recent(by_sid.date_created)
    assert is_recent(by_sid.date_updated)
    assert by_sid.app["update_status"] == "up-to-date"
    assert by_sid.url.endswith("/v1/Devices/" + made["sid"])
    assert set(by_sid.links) >= {"device_configs", "device_secrets"}
    device = by_sid.update(target_app="thermostat-1", logging_enabled=True, restart_app=True, unique_name="boiler 8")
    assert device.unique_name == "boiler 8"
    assert device.app["target_sid"] == app["sid"]
    assert device.app["target_hash"] == app["hash"]
    assert device.app["update_status"] == "pending"
    assert device.app["update_error_code"] == 0
    assert device.logging["enabled"] is True
    assert microvisor.devices("boiler 8").fetch().sid == made["sid"]
    cleared = microvisor.devices(made["sid"]).update(target_app="", logging_enabled=False)
    assert cleared.app["target_sid"] is None
    assert cleared.logging == {"enabled": False, "date_expires": None}
    assert made["sid"] in [device.sid for device in microvisor.devices.list()]


def test_lists_of_many_pages_are_walked_whole(microvisor, rest):
    names = {f"page-{number}" for number in range(13)}
    for name in names:
        register(rest, name)
    found = [device.unique_name for device in microvisor.devices.stream(page_size=3)]
    assert names <= set(found)
    assert len(found) == len(set(found))
    assert len(microvisor.devices.list(limit=5)) == 5
    assert len(microvisor.devices.list(limit=5000)) == len(found)
    first = microvisor.devices.page(page_size=4)
    second = first.next_page()
    assert [device.sid for device in second.previous_page()] == [device.sid for device in first]
    again = microvisor.devices.get_page(second.next_page_url)
    assert len(list(again)) == 4


def test_apps_are_listed_fetched_read_back_and_deleted(microvisor, rest):
    made = upload(rest, "to-delete", b"two" * 100)
    app = microvisor.apps("to-delete").fetch()
    assert app.sid == made["sid"]
    assert is_recent(app.date_created)
    assert app.hash == made["hash"]
    manifest = app.app_manifests().fetch()
    raw = base64.b64decode(manifest.encoded_bytes)
    assert manifest.app_sid == app.sid
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == manifest.hash == app.hash
    assert app.sid in [app.sid for app in microvisor.apps.list()]
    assert app.delete() is True
    with pytest.raises(TwilioRestException) as missing:
        microvisor.apps("to-delete").fetch()
    assert (missing.value.status, missing.value.code) == (404, 20404)


def test_an_app_that_a_device_targets_stays(microvisor, rest):
    upload(rest, "targeted", b"three" * 100)
    register(rest, "holder")
    microvisor.devices("holder").update(target_app="targeted")
    with pytest.raises(TwilioRestException) as refused:
        microvisor.apps("targeted").delete()
    assert (refused.value.status, refused.value.code) == (409, 20409)
    microvisor.devices("holder").update(target_app="")
    assert microvisor.apps("targeted").delete() is True


@pytest.mark.parametrize("owner", ["account", "device"])
def test_configs_are_created_listed_fetched_updated_and_deleted(microvisor, rest, owner):
    if owner == "account":
        configs = listed = microvisor.account_configs
    else:
        made = register(rest, "config-holder")
        holder = microvisor.devices(made["sid"])
        configs, listed = holder.device_configs, holder.device_configs
    config = listed.create(key="interval.json", value="60")
    assert (config.key, config.value) == ("interval.json", "60")
    assert is_recent(config.date_updated)
    assert configs("interval.json").fetch().value == "60"
    assert configs("interval.json").update(value="30 s & more + ü").value == "30 s & more + ü"
    for number in range(7):
        listed.create(key=f"key {number}", value=str(number))
    assert len(listed.list(page_size=3)) == 8
    assert configs("interval.json").delete() is True
    with pytest.raises(TwilioRestException) as missing:
        configs("interval.json").fetch()
    assert missing.value.status == 404


@pytest.mark.parametrize("owner", ["account", "device"])
def test_secrets_are_written_and_never_shown(microvisor, rest, owner):
    if owner == "account":
        secrets = microvisor.account_secrets
    else:
        secrets = microvisor.devices(register(rest, "secret-holder")["sid"]).device_secrets
    secret = secrets.create(key="password", value="hunter2")
    assert is_recent(secret.date_rotated)
    assert secrets("password").fetch().key == "password"
    assert secrets("password").update(value="hunter3").key == "password"
    assert [secret.key for secret in secrets.list()] == ["password"]
    assert not hasattr(secret, "value")
    assert secrets("password").delete() is True


def test_errors_carry_code_status_and_a_page_that_explains_them(microvisor, server):
    with pytest.raises(TwilioRestException) as missing:
        microvisor.devices("nobody").fetch()
    error = missing.value
    assert (error.status, error.code) == (404, 20404)
    assert error.uri == "/Devices/nobody"
    with pytest.raises(TwilioRestException) as twice:
        microvisor.account_configs.create(key="k" * 101, value="")
    assert (twice.value.status, twice.value.code) == (400, 20001)


def test_wrong_credentials_are_refused(server):
    http = TwilioHttpClient()
    client = Client(server.auth[0], "wrong", http_client=http)
    client.microvisor.base_url = server.url
    with pytest.raises(TwilioRestException) as refused:
        client.microvisor.v1.devices("boiler-7").fetch()
    assert (refused.value.status, refused.value.code) == (401, 20003)
    http.session.close()


def test_an_api_key_works_as_username_and_password(rest, server):
    key = rest.post("/v1/Keys", data={"FriendlyName": "ci", "Role": "admin"}).json()
    http = TwilioHttpClient()
    client = Client(key["sid"], key["secret"], server.auth[0], http_client=http)
    client.microvisor.base_url = server.url
    assert client.microvisor.v1.devices.list(limit=1)
    assert rest.delete(f"/v1/Keys/{key['sid']}").status_code == 204
    with pytest.raises(TwilioException, match="401"):
        client.microvisor.v1.devices.list(limit=1)
    http.session.close()
