"""The unmodified Twilio CLI from npm, led to our server as the documents tell: each kind of command it has for Microvisor."""

import base64
import hashlib
import json
import subprocess

import httpx
import pytest
from tests.clients.npm_clients import CLI, ROOT, environment, needs_node
from tests.corpus import simple_bundle
from tests.server import context, running

pytestmark = [
    pytest.mark.service,
    needs_node(20),
    pytest.mark.skipif(not CLI.exists(), reason="npm is older than 10, or missing"),
]

PAGE = ROOT / "docs" / "how-to" / "use-existing-clients.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cli") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    with httpx.Client(base_url=server.url, auth=server.auth, verify=context(server)) as client:
        for number in range(5):
            assert client.post("/v1/Devices", data={"UniqueName": f"boiler-{number}"}).status_code == 201
        yield client


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """Runs a command after ``twilio api:microvisor:v1:``; gives its exit status and what it wrote."""
    folder = tmp_path_factory.mktemp("home")
    redirect = folder / "fleetvisor.cjs"
    redirect.write_text(PAGE.read_text().split("<<'END'\n")[1].split("END\n")[0])
    theirs = environment(server) | {"HOME": str(folder), "NODE_OPTIONS": f"--require {redirect}"}

    def run(command, *arguments, **changed):
        line = [str(CLI), f"api:microvisor:v1:{command}", *arguments]
        return subprocess.run(line, env=theirs | changed, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="module")
def give(run):
    """Runs a command that succeeds, and gives its list of resources."""

    def give(command, *arguments):
        done = run(command, *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return give


def test_devices_are_listed_page_by_page(give, rest):
    """The CLI asks for ``Connection: close``, and hangs up on a server that does not say it too."""
    names = [device["uniqueName"] for device in give("devices:list", "--page-size", "2")]
    assert names == [f"boiler-{number}" for number in (4, 3, 2, 1, 0)]


def test_devices_are_fetched_and_updated(give, rest):
    app = upload(rest, "thermostat-1")
    (device,) = give("devices:update", "--sid", "boiler-1", "--target-app", "thermostat-1", "--logging-enabled",
                     "--restart-app", "--unique-name", "boiler +8 ü")  # fmt: skip
    assert device["app"]["target_sid"] == app["sid"]
    assert device["app"]["update_status"] == "pending"
    assert device["logging"]["enabled"] is True
    (again,) = give("devices:fetch", "--sid", "boiler +8 ü")
    assert again == device
    (device,) = give("devices:update", "--sid", device["sid"], "--target-app", "", "--no-logging-enabled",
                     "--unique-name", "boiler-1")  # fmt: skip
    assert (device["app"]["target_sid"], device["logging"]["enabled"]) == (None, False)


def test_apps_are_listed_fetched_read_back_and_removed(give, run, rest):
    made = upload(rest, "to-delete")
    assert made["sid"] in [app["sid"] for app in give("apps:list")]
    (app,) = give("apps:fetch", "--sid", "to-delete")
    assert app["hash"] == made["hash"]
    (manifest,) = give("apps:manifest:fetch", "--app-sid", "to-delete")
    assert "sha256:" + hashlib.sha256(base64.b64decode(manifest["encodedBytes"])).hexdigest() == made["hash"]
    assert run("apps:remove", "--sid", "to-delete").returncode == 0


@pytest.mark.parametrize("kind", ["configs", "devices:secrets"])
def test_configs_and_secrets_are_created_listed_fetched_updated_and_removed(give, run, rest, kind):
    of = ("--device-sid", "boiler-0") if kind.startswith("devices:") else ()
    (made,) = give(f"{kind}:create", *of, "--key", "the key.1", "--value", "ü & 1")
    assert made.get("value", "") == ("ü & 1" if kind.endswith("configs") else "")
    (changed,) = give(f"{kind}:update", *of, "--key", "the key.1", "--value", "2")
    assert give(f"{kind}:fetch", *of, "--key", "the key.1") == give(f"{kind}:list", *of) == [changed]
    assert run(f"{kind}:remove", *of, "--key", "the key.1").returncode == 0


def test_an_error_is_shown_with_what_was_wrong_and_where_it_is_explained(run, rest, server):
    done = run("devices:update", "--sid", "boiler-0", "--target-app", "misspelt")
    assert done.returncode == 20
    assert "Error code 20001 from Twilio: A parameter is missing or invalid: TargetApp: no App of this" in done.stderr
    assert f"{server.url}/docs/errors/20001" in done.stderr
    refused = run("devices:list", TWILIO_AUTH_TOKEN="wrong")
    assert refused.returncode == 20
    assert "Error code 20003" in refused.stderr


def upload(rest, name):
    files = {"File": ("bundle.zip", simple_bundle(name.encode() * 50), "application/zip")}
    answer = rest.post("/v1/Apps", files=files, data={"UniqueName": name})
    assert answer.status_code == 201, answer.text
    return answer.json()
