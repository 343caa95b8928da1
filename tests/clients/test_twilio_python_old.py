"""Earlier twilio-python from the package index, run unmodified from their wheels: what their users' scripts do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.clients.npm_clients import environment
from tests.corpus import simple_bundle
from tests.server import context, running

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".venv" / "old-clients"
VERSIONS = ["7.13.0", "7.17.0", "8.13.0"]

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not WHEELS.exists(), reason="run scripts/other-clients to get the old wheels"),
]

SCRIPT = """
import json, os
import twilio
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

client = Client(os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"])
client.microvisor.base_url = os.environ["FLEETVISOR_URL"]
microvisor = client.microvisor.v1
found = {"version": twilio.__version__}
found["streamed"] = [device.unique_name for device in microvisor.devices.stream(page_size=3)]
first = microvisor.devices.page(page_size=3)
second = first.next_page()
pages = [second, second.previous_page(), microvisor.devices.get_page(first.next_page_url)]
found["pages"] = [[device.unique_name for device in page] for page in pages]
device = microvisor.devices("boiler-0").update(target_app="thermostat", logging_enabled=True, unique_name="boiler ü")
found["updated"] = [device.unique_name, device.app["update_status"], device.logging["enabled"]]
device = microvisor.devices(device.sid).update(target_app="", logging_enabled=False, unique_name="boiler-0")
found["restored"] = [device.unique_name, device.app["target_sid"], device.logging["enabled"]]
found["date"] = device.date_created.tzinfo is not None
found["apps"] = [app.unique_name for app in microvisor.apps.list()]
try:
    microvisor.devices("boiler-0").update(target_app="misspelt")
except TwilioRestException as error:
    found["error"] = [error.status, error.code, error.msg]
found["stores"] = []
if hasattr(microvisor, "account_configs"):
    device = microvisor.devices("boiler-0")
    for store in (microvisor.account_configs, microvisor.account_secrets, device.device_configs, device.device_secrets):
        store.create(key="k.1", value="1")
        same = store("k.1").fetch().key == store("k.1").update(value="2").key == store.list()[0].key
        found["stores"].append(same and store("k.1").delete())
    app = microvisor.apps("thermostat")
    found["manifest"] = app.app_manifests().fetch().hash == app.fetch().hash
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("old") / "data") as server:
        with httpx.Client(base_url=server.url, auth=server.auth, verify=context(server)) as client:
            for number in range(7):
                assert client.post("/v1/Devices", data={"UniqueName": f"boiler-{number}"}).status_code == 201
            files = {"File": ("bundle.zip", simple_bundle(b"one" * 100), "application/zip")}
            assert client.post("/v1/Apps", files=files, data={"UniqueName": "thermostat"}).status_code == 201
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_a_script_of_that_time_runs_with_one_changed_url(server, version):
    (wheel,) = WHEELS.glob(f"twilio-{version}-*.whl")
    (pytz,) = WHEELS.glob("pytz-*.whl")
    names = {"REQUESTS_CA_BUNDLE": server.ca_file, "PYTHONPATH": os.pathsep.join([str(wheel), str(pytz)])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment(server) | names,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    boilers = [f"boiler-{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    found = json.loads(done.stdout)
    assert found.pop("stores") == ([] if version == "7.13.0" else [True] * 4)
    assert found.pop("manifest", True) is True
    error = "A parameter is missing or invalid: TargetApp: no App of this account has this SID or unique name"
    assert found == {
        "version": version,
        "streamed": boilers,
        "pages": [boilers[3:6], boilers[:3], boilers[3:6]],
        "updated": ["boiler ü", "pending", True],
        "restored": ["boiler-0", None, False],
        "date": True,
        "apps": ["thermostat"],
        "error": [400, 20001, f"Unable to update record: {error}"],
    }
