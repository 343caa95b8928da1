"""The unmodified twilio-node from npm, its first and its last version with Microvisor, over HTTPS: every operation."""

import base64
import hashlib
import json
import ssl
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from tests.clients.npm_clients import MODULES, Refused, Session, needs_node
from tests.corpus import simple_bundle
from tests.server import running

from fleetvisor.settings import host_that_twilio_node_calls

pytestmark = [pytest.mark.service, needs_node()]

FIRST, LAST = "twilio-3", "twilio"
OF_ACCOUNT = "microvisor.account{kind}"
OF_DEVICE = "microvisor.devices('holder').device{kind}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("node") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    """What the published API never had: registration, and the upload that people did with curl."""
    context = ssl.create_default_context(cafile=server.ca_file)
    with httpx.Client(base_url=server.url, auth=server.auth, verify=context) as client:
        yield client


@pytest.fixture(scope="module")
def first_and_last(server):
    sessions = {module: Session(module, server) for module in (FIRST, LAST)}
    yield sessions
    for session in sessions.values():
        session.close()


@pytest.fixture(params=[FIRST, LAST])
def run(first_and_last, request):
    """Runs JavaScript with ``client`` and ``microvisor`` set up as a user does it: credentials, and one changed URL."""
    return first_and_last[request.param]


@pytest.fixture
def last(first_and_last):
    return first_and_last[LAST]


def register(rest, name):
    answer = rest.post("/v1/Devices", data={"UniqueName": name})
    assert answer.status_code in (201, 409), answer.text
    return rest.get(f"/v1/Devices/{name}").json()


def upload(rest, name, firmware):
    files = {"File": ("bundle.zip", simple_bundle(firmware), "application/zip")}
    answer = rest.post("/v1/Apps", files=files, data={"UniqueName": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def is_recent(text):
    """Whether a Date that the client made of an answer, written as JSON, is of now."""
    return abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(minutes=5)


def test_they_are_the_first_and_the_last_that_had_microvisor():
    versions = [json.loads((MODULES / module / "package.json").read_text())["version"] for module in (FIRST, LAST)]
    assert versions == ["3.80.1", "5.7.1"]


def test_devices_are_fetched_and_updated(run, rest):
    made = register(rest, "boiler-7")
    app = upload(rest, f"thermostat-{id(run)}", b"one" * 100)
    device = run("return microvisor.devices('boiler-7').fetch()")
    assert device["sid"] == made["sid"]
    assert device["app"]["update_status"] == "up-to-date"
    assert is_recent(device["dateCreated"])
    assert run("return (await microvisor.devices('boiler-7').fetch()).dateUpdated instanceof Date")
    device = run(f"""return microvisor.devices('{made["sid"]}').update(
        {{targetApp: '{app["unique_name"]}', loggingEnabled: true, restartApp: true, uniqueName: 'boiler ü 8'}})""")
    assert device["uniqueName"] == "boiler ü 8"
    assert (device["app"]["target_sid"], device["app"]["target_hash"]) == (app["sid"], app["hash"])
    assert device["app"]["update_status"] == "pending"
    assert device["logging"]["enabled"] is True
    assert run("return (await microvisor.devices('boiler ü 8').fetch()).sid") == made["sid"]
    device = run("""return microvisor.devices('boiler ü 8').update(
        {targetApp: '', loggingEnabled: false, uniqueName: 'boiler-7'})""")
    assert device["app"]["target_sid"] is None
    assert device["logging"] == {"enabled": False, "date_expires": None}


def test_lists_of_many_pages_are_walked_whole_and_both_ways(run, rest):
    for number in range(13):
        register(rest, f"page-{number}")
    found = run("return (await microvisor.devices.list({pageSize: 3})).map(device => device.uniqueName)")
    assert {f"page-{number}" for number in range(13)} <= set(found)
    assert len(found) == len(set(found))
    assert run("return (await microvisor.devices.list({limit: 5, pageSize: 2})).length") == 5
    assert run("return (await microvisor.devices.list({limit: 5000})).length") == len(found)
    each = """return new Promise((done, failed) => { const names = [];
        microvisor.devices.each({pageSize: 4, done: error => error ? failed(error) : done(names)},
                                device => names.push(device.uniqueName)); })"""
    assert run(each) == found
    pages = run("""
        const first = await microvisor.devices.page({pageSize: 4});
        const second = await first.nextPage();
        const again = await microvisor.devices.getPage(first.nextPageUrl);
        let last = second; for (let page = last; page; page = await page.nextPage()) last = page;
        return [first, second, await second.previousPage(), again, last].map(page =>
            page.instances.map(device => device.uniqueName))""")
    assert pages[:4] == [found[:4], found[4:8], found[:4], found[4:8]]
    assert pages[4] == found[-len(pages[4]) :]


def test_apps_are_listed_fetched_and_removed(run, rest):
    made = upload(rest, "to-delete", b"two" * 100)
    app = run("return microvisor.apps('to-delete').fetch()")
    assert (app["sid"], app["hash"]) == (made["sid"], made["hash"])
    assert is_recent(app["dateCreated"])
    assert app["sid"] in run("return (await microvisor.apps.list()).map(app => app.sid)")
    assert run("return microvisor.apps('to-delete').remove()") is True
    with pytest.raises(Refused) as missing:
        run("return microvisor.apps('to-delete').fetch()")
    assert (missing.value.status, missing.value.code) == (404, 20404)


def test_the_manifest_is_what_the_hash_says(last, rest):
    made = upload(rest, "read-back", b"three" * 100)
    manifest = last("return microvisor.apps('read-back').appManifests().fetch()")
    assert manifest["appSid"] == made["sid"]
    raw = base64.b64decode(manifest["encodedBytes"])
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == manifest["hash"] == made["hash"]


@pytest.mark.parametrize("owner", [OF_ACCOUNT, OF_DEVICE])
def test_configs_are_created_listed_fetched_updated_and_removed(last, rest, owner):
    register(rest, "holder")
    configs = owner.format(kind="Configs")
    made = last(f"return {configs}.create({{key: 'interval.json', value: '30 s & more + ü'}})")
    assert (made["key"], made["value"]) == ("interval.json", "30 s & more + ü")
    assert is_recent(made["dateUpdated"])
    assert last(f"return (await {configs}('interval.json').fetch()).value") == "30 s & more + ü"
    assert last(f"return (await {configs}('interval.json').update({{value: ''}})).value") == ""
    last(f"for (let n = 0; n < 7; n++) await {configs}.create({{key: `key ${{n}}`, value: `${{n}}`}})")
    assert len(last(f"return (await {configs}.list({{pageSize: 3}})).map(config => config.key)")) == 8
    assert last(f"return {configs}('interval.json').remove()") is True
    with pytest.raises(Refused) as missing:
        last(f"return {configs}('interval.json').fetch()")
    assert missing.value.status == 404


@pytest.mark.parametrize("owner", [OF_ACCOUNT, OF_DEVICE])
def test_secrets_are_written_and_never_shown(last, rest, owner):
    register(rest, "holder")
    secrets = owner.format(kind="Secrets")
    made = last(f"return {secrets}.create({{key: 'password', value: 'hunter2'}})")
    assert is_recent(made["dateRotated"])
    assert "value" not in last(f"return {secrets}('password').fetch()")
    assert last(f"return (await {secrets}('password').update({{value: 'hunter3'}})).key") == "password"
    assert last(f"return (await {secrets}.list()).map(secret => secret.key)") == ["password"]
    assert last(f"return {secrets}('password').remove()") is True


def test_an_error_says_what_was_wrong_and_where_it_is_explained(run, rest, server):
    """The client drops ``detail``: what its user can read is the message, so that must say it."""
    register(rest, "boiler-9")
    with pytest.raises(Refused) as refused:
        run("return microvisor.devices('boiler-9').update({targetApp: 'misspelt'})")
    assert refused.value.error == {
        "name": "RestException",
        "status": 400,
        "code": 20001,
        "message": "A parameter is missing or invalid: TargetApp: no App of this account has this SID or unique name",
        "moreInfo": f"{server.url}/docs/errors/20001",
    }


def test_wrong_credentials_are_refused_and_an_api_key_works(run, rest, server):
    code = """const other = twilio({names}); other.microvisor.baseUrl = process.env.FLEETVISOR_URL;
        return (await other.microvisor.v1.devices.list({{limit: 1}})).length"""
    with pytest.raises(Refused) as refused:
        run(code.format(names="process.env.TWILIO_ACCOUNT_SID, 'wrong'"))
    assert (refused.value.status, refused.value.code) == (401, 20003)
    register(rest, "boiler-9")
    key = rest.post("/v1/Keys", data={"FriendlyName": "ci", "Role": "admin"}).json()
    account = server.auth[0]
    assert run(code.format(names=f"'{key['sid']}', '{key['secret']}', {{accountSid: '{account}'}}")) == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "mv", "example.com", "mv.example.com", "mv.lab.example.com", "mv.a.b.example.com",
     "mv.a.b.c.example.com", "mv.a.b.c.d.example.com", "127.0.0.1", "192.0.2.7"],
)  # fmt: skip
def test_the_warning_of_serve_knows_which_host_names_it_rewrites(run, host):
    assert run(f"return client.getHostname({host!r})") == host_that_twilio_node_calls(host)
