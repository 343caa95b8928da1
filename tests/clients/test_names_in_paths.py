"""Which names and keys the unmodified clients carry in a path: the measure of what may be made as one.

twilio-python and twilio-node put a name into a path as it is, and the libraries below them change some characters.
Every printable ASCII character goes the whole way through both: create, fetch, update, delete. What the server refuses
to make is planted in the database, as an older version made it, and must be what a client cannot address.
"""

import json
import sqlite3
import ssl
from contextlib import closing
from urllib.parse import quote

import httpx
import pytest
from tests.clients.npm_clients import Session, needs_node
from tests.corpus import simple_bundle
from tests.server import running
from twilio.base.exceptions import TwilioException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.names import NOT_CARRIED, check_key, check_unique_name

pytestmark = [pytest.mark.service, needs_node()]

PLAIN = "".join(chr(number) for number in range(0x20, 0x7F) if chr(number).isalnum())
NAME_WITH = {chr(number): f"{chr(number)}41{chr(number)}x{chr(number)}" for number in range(0x20, 0x7F)}
"""A name with each character: it begins, stands in the middle before digits (``%41``), and ends."""
NAME_WITH |= dict.fromkeys(PLAIN, PLAIN)  # letters and digits share one: a name costs a dozen requests
NAMES = [*dict.fromkeys(NAME_WITH.values()), "x 41", ".", ".."]
_NODE = """
const way = async (things, name, change, remove) => {
  try {
    const found = await things(name).fetch();
    const changed = things(name).update ? await things(name).update(change) : found;
    if (remove) await things(name).remove();
    return [found, changed].every(each => (each.key ?? each.uniqueName) === name);
  } catch (error) { return false; }
};
const holder = microvisor.devices('holder');
const create = async (things, name) => {
  try { await things.create({key: name, value: 'v'}); return true; }
  catch (error) { if (error.status !== 400 && error.status !== 409) throw error; return false; }
};
const result = {};
for (const name of NAMES) {
  await create(holder.deviceConfigs, name);
  await create(microvisor.accountSecrets, name);
  result[name] = {
    config: await way(holder.deviceConfigs, name, {value: 'w'}, true),
    secret: await way(microvisor.accountSecrets, name, {value: 'w'}, true),
    device: await way(microvisor.devices, name, {uniqueName: name}, false),
    app: await way(microvisor.apps, name, {}, true),
  };
}
return result;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("paths") / "data") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", server.ca_file)
        for name in ("TWILIO_EDGE", "TWILIO_REGION"):
            patch.delenv(name, raising=False)
        yield server


@pytest.fixture(scope="module")
def rest(server):
    context = ssl.create_default_context(cafile=server.ca_file)
    with httpx.Client(base_url=server.url, auth=server.auth, verify=context, timeout=30) as client:
        yield client


def may_be_made(name):
    """Whether the rules let a name and a key of this form be made: they agree on printable ASCII."""
    judged = set()
    for check in (check_unique_name, check_key):
        try:
            judged.add(check(name, 64) == name)
        except Invalid:
            judged.add(False)
    (verdict,) = judged
    return verdict


def change_rows(server, statement, rows):
    with closing(sqlite3.connect(server.data / "fleetvisor.db", timeout=20)) as connection, connection:
        connection.executemany(statement, rows)


def plant_keys(server, holder, names):
    """Store keys as an older version made them."""
    account = server.auth[0]
    change_rows(
        server,
        "INSERT OR IGNORE INTO configs (owner_sid, store, key, account_sid, value, sealed, date_updated)"
        " VALUES (?, ?, ?, ?, ?, ?, 1)",
        [(holder, "config", name, account, "v", None) for name in names]
        + [(account, "secret", name, account, None, b"-") for name in names],
    )


def make_devices(server, rest, names):
    """Register a device of each name; what may not be made is planted."""
    planted = []
    for number, name in enumerate(names):
        made = rest.post("/v1/Devices", data={"UniqueName": name})
        assert made.status_code == (201 if may_be_made(name) else 400), (name, made.text)
        if made.status_code == 400:
            assert made.json()["code"] == 20001
            made = rest.post("/v1/Devices", data={"UniqueName": f"planted-{number}"})
            planted.append((name, made.json()["sid"]))
    change_rows(server, "UPDATE devices SET unique_name = ? WHERE device_sid = ?", planted)


def make_apps(server, rest, names):
    planted = []
    for number, name in enumerate(names):
        firmware = f"app {number}".encode() * 9
        files = {"File": ("bundle.zip", simple_bundle(firmware), "application/zip")}
        made = rest.post("/v1/Apps", files=files, data={"UniqueName": name})
        if not may_be_made(name):
            assert made.status_code == 400, name
            made = rest.post("/v1/Apps", files=files)
            planted.append((name, made.json()["sid"]))
        assert made.status_code == 201, made.text
    change_rows(server, "UPDATE apps SET unique_name = ? WHERE app_sid = ?", planted)


def encoded(name):
    return quote(name, safe="").replace(".", "%2E")


def python_way(things, name, change, remove):
    try:
        found = things(name).fetch()
        changed = things(name).update(**change) if change else found
        if remove:
            things(name).delete()
    except TwilioException:
        return False
    return all((each.key if hasattr(each, "key") else each.unique_name) == name for each in (found, changed))


def python_create(things, name):
    try:
        things.create(key=name, value="v")
    except TwilioException as error:
        assert error.status in (400, 409)


def by_python(server):
    http = TwilioHttpClient()
    client = Client(*server.auth, http_client=http)
    client.microvisor.base_url = server.url
    microvisor = client.microvisor.v1
    holder = microvisor.devices("holder")
    result = {}
    for name in NAMES:
        python_create(holder.device_configs, name)
        python_create(microvisor.account_secrets, name)
        result[name] = {
            "config": python_way(
                lambda key: microvisor.devices("holder").device_configs(key), name, {"value": "w"}, True
            ),
            "secret": python_way(microvisor.account_secrets, name, {"value": "w"}, True),
            "device": python_way(microvisor.devices, name, {"unique_name": name}, False),
            "app": python_way(microvisor.apps, name, {}, False),
        }
    http.session.close()
    return result


def by_node(server):
    session = Session("twilio", server)
    try:
        return session(_NODE.replace("NAMES", json.dumps(NAMES)))
    finally:
        session.close()


@pytest.fixture(scope="module")
def carried(server, rest):
    """What became of each name, by client and kind of resource."""
    holder = rest.post("/v1/Devices", data={"UniqueName": "holder"}).json()["sid"]
    refused = [name for name in NAMES if not may_be_made(name)]
    make_devices(server, rest, NAMES)
    make_apps(server, rest, NAMES)
    results = {}
    for client in (by_python, by_node):  # the last one removes the apps
        plant_keys(server, holder, refused)
        results[client.__name__] = client(server)
    return results


def test_what_may_be_made_goes_the_whole_way_through_both_clients_and_nothing_else_does(carried):
    whole = {name for name in NAMES if all(all(result[name].values()) for result in carried.values())}
    assert whole == {name for name in NAMES if may_be_made(name)}


def test_the_refused_characters_are_those_that_a_client_does_not_carry(carried):
    lost = {
        char for char, name in NAME_WITH.items() if not all(all(result[name].values()) for result in carried.values())
    }
    assert lost - {" "} == NOT_CARRIED


def test_what_was_made_before_is_usable_at_the_percent_encoded_path(server, rest):
    made = rest.post("/v1/Devices", data={"UniqueName": "old"}).json()
    old = "a/b?c#d%41\\ "
    change_rows(server, "UPDATE devices SET unique_name = ? WHERE device_sid = ?", [(old, made["sid"])])
    path = f"/v1/Devices/{encoded(old)}"
    assert rest.get(path).json()["sid"] == made["sid"]
    assert rest.post(path, data={"UniqueName": old, "LoggingEnabled": "true"}).status_code == 200
    assert rest.post(path, data={"UniqueName": old + "#"}).status_code == 400
    plant_keys(server, made["sid"], [old])
    key = f"{path}/Configs/{encoded(old)}"
    assert rest.get(key).json()["key"] == old
    assert rest.post(key, data={"Value": "w"}).json()["value"] == "w"
    assert rest.delete(key).status_code == 204
    assert rest.post(path, data={"UniqueName": "new"}).json()["unique_name"] == "new"


def test_letters_of_any_script_may_be_made_and_are_carried(server, rest):
    name = "日本語 ü: a+b@c*"
    assert rest.post("/v1/Devices", data={"UniqueName": name}).status_code == 201
    http = TwilioHttpClient()
    client = Client(*server.auth, http_client=http)
    client.microvisor.base_url = server.url
    assert client.microvisor.v1.devices(name).fetch().unique_name == name
    http.session.close()
    session = Session("twilio", server)
    try:
        assert session(f"return (await microvisor.devices({json.dumps(name)}).fetch()).uniqueName") == name
    finally:
        session.close()
