"""The typed calls: which requests they are, and what becomes of the answers."""

import json
from urllib.parse import parse_qs

import httpx
import pytest

from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.credentials import Server
from fleetvisor.client.http import Http
from fleetvisor.client.resources import Client, segment

SID = "UV" + "1" * 32
DEVICE = {
    "sid": SID,
    "unique_name": "boiler",
    "app": {"target_sid": None, "update_status": "up-to-date", "update_error_code": 0, "reported_sid": None},
    "logging": {"enabled": False, "date_expires": None},
    "date_created": "2026-11-23T10:00:00Z",
    "update": None,
    "something_newer": [1, 2],
}


class Store:
    """A tiny server of configs, to see how ``set_entry`` deals with what it answers."""

    def __init__(self, values, *, full=False):
        self.values = values
        self.full = full
        self.calls = []

    def __call__(self, request):
        form = {name: value[0] for name, value in parse_qs(request.read().decode(), keep_blank_values=True).items()}
        path = request.url.raw_path.decode()
        self.calls.append((request.method, path, form))
        key = path.removeprefix("/v1/Configs").removeprefix("/")
        if key and key not in self.values:
            return self.problem(404)
        if not key and (self.full or form["Key"] in self.values):
            return self.problem(409)
        self.values[key or form["Key"]] = form["Value"]
        return httpx.Response(200, json={"key": key or form["Key"], "value": form["Value"]})

    @staticmethod
    def problem(status):
        return httpx.Response(status, json={"code": 20000 + status, "detail": str(status)})


def client(answer):
    server = Server(base_url="https://localhost", account_sid="AC", auth_token="t")
    return Client(Http(server, transport=httpx.MockTransport(answer)))


def answering(body, calls=None):
    def answer(request):
        if calls is not None:
            calls.append((request.method, request.url.raw_path.decode(), request.read().decode()))
        return httpx.Response(200, json=body)

    return client(answer)


def test_a_resource_keeps_what_the_server_sent_even_fields_that_have_no_type_here():
    device = answering(DEVICE).device("boiler")
    assert device.name == "boiler"
    assert device.fields()["something_newer"] == [1, 2]
    assert json.loads(device.document) == DEVICE


def test_an_answer_of_another_shape_is_a_server_not_understood():
    with pytest.raises(Unreachable, match="not understood"):
        answering({"sid": 3}).device("boiler")


def test_only_what_is_given_is_sent():
    calls = []
    fleet = answering(DEVICE, calls)
    fleet.update_device("boiler", target="app-1", logging=False)
    fleet.update_device("boiler", name="", restart=True, cancel_update=True)
    fleet.create_device()
    assert [form for _, _, form in calls] == [
        "TargetApp=app-1&LoggingEnabled=false",
        "UniqueName=&RestartApp=true&CancelUpdate=true",
        "",
    ]


def test_each_label_is_a_parameter_of_its_own():
    calls = []
    fleet = answering(DEVICE, calls)
    fleet.create_device("boiler", labels=("site=graz", "a=b & c"))
    fleet.update_device("boiler", labels=["ring-"])
    assert [form for _, _, form in calls] == [
        "UniqueName=boiler&Labels=site%3Dgraz&Labels=a%3Db+%26+c",
        "Labels=ring-",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"), [("a b", "a%20b"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), (".", "%2E"), ("é", "%C3%A9")]
)
def test_a_name_is_one_segment_of_the_path_whatever_it_holds(text, escaped):
    calls = []
    answering(DEVICE, calls).device(text)
    assert segment(text) == escaped
    assert calls[0][1] == f"/v1/Devices/{escaped}"


def test_setting_a_key_that_is_missing_creates_it():
    store = Store({})
    assert client(store).set_entry("Configs", "a", "1").value == "1"
    assert store.values == {"a": "1"}


def test_setting_a_key_that_exists_updates_it():
    store = Store({"a": "0"})
    client(store).set_entry("Configs", "a", "")
    assert store.values == {"a": ""}
    assert len(store.calls) == 1


def test_setting_a_key_of_an_owner_with_too_many_says_so():
    with pytest.raises(ApiProblem) as caught:
        client(Store({}, full=True)).set_entry("Configs", "a", "1")
    assert caught.value.status == 409


def test_setting_a_key_that_somebody_else_creates_meanwhile_updates_theirs():
    store = Store({})

    def race(request):
        answer = store(request)
        if answer.status_code == 404:
            store.values["a"] = "theirs"
        return answer

    assert client(race).set_entry("Configs", "a", "ours").value == "ours"


def test_the_keys_of_a_device_are_under_the_device():
    calls = []
    answering({"key": "k"}, calls).entry("Secrets", "k", "boiler")
    assert calls[0][1] == "/v1/Devices/boiler/Secrets/k"
