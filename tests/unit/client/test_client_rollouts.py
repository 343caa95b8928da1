"""The typed calls of rollouts: which requests they are, and what becomes of the answers."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from fleetvisor.client.answers import Unreachable
from fleetvisor.client.credentials import Server
from fleetvisor.client.http import Http
from fleetvisor.client.rollouts import Rollouts, Wanted
from fleetvisor.protocol.guard_settings import SETTINGS

SID = "RO" + "1" * 32
ROLLOUT = {
    "sid": SID,
    "friendly_name": "",
    "state": "running",
    "wave": 1,
    "waves": [{"position": 1, "size": "10%", "state": "open", "threshold": 0.1, "counts": {"updating": 2}}],
    "counts": {"updating": 2},
    "guard": {"limit": 0.05, "confidence": 0.95},
    "decision": {
        "number": 3, "wave": 1, "verdict": "hold", "code": "deciding", "sentence": "Why.", "numbers": {"lower": 0.1}
    },
    "waits_for": {"code": "devices", "sentence": "Devices decide.", "until": None},
    "something_newer": True,
}  # fmt: skip


@pytest.fixture
def calls():
    return []


@pytest.fixture
def answering(calls):
    def client(body):
        def answer(request):
            calls.append((request.method, request.url.raw_path.decode(), parse_qs(request.read().decode())))
            return httpx.Response(200, json=body)

        server = Server(base_url="https://localhost", account_sid="AC", auth_token="t")
        return Rollouts(Http(server, transport=httpx.MockTransport(answer)))

    return client


def test_a_rollout_keeps_what_the_server_sent_even_fields_that_have_no_type_here(answering, calls):
    rollout = answering(ROLLOUT).get(SID)
    assert (rollout.name, rollout.waves[0].counts, rollout.guard.limit) == (SID, {"updating": 2}, 0.05)
    assert (rollout.decision.number, rollout.decision.numbers, rollout.waits_for.until) == (3, {"lower": 0.1}, None)
    assert json.loads(rollout.document) == ROLLOUT
    assert calls == [("GET", f"/v1/Rollouts/{SID}", {})]


def test_an_answer_of_another_shape_is_a_server_not_understood(answering):
    with pytest.raises(Unreachable, match="not understood"):
        answering({"sid": SID}).get(SID)


def test_only_what_is_given_is_sent(answering, calls):
    rollouts = answering(ROLLOUT)
    rollouts.create("app-1", "*")
    rollouts.create(
        "app-1", "site=graz", Wanted(name="spring", waves="1,100%", guard={"soak": 0, "require_proof": False})
    )
    rollouts.create_rollback(SID, Wanted(guard={"limit": "2%"}, concurrent_max=0))
    assert [form for _, _, form in calls] == [
        {"App": ["app-1"], "Selector": ["*"]},
        {
            "App": ["app-1"], "Selector": ["site=graz"], "FriendlyName": ["spring"], "Waves": ["1,100%"],
            "Soak": ["0"], "RequireProof": ["false"],
        },
        {"Kind": ["rollback"], "RollbackOf": [SID], "Limit": ["2%"], "MaxConcurrent": ["0"]},
    ]  # fmt: skip


def test_every_setting_has_its_parameter(answering, calls):
    answering(ROLLOUT).create(
        "a", None,
        Wanted(
            name="n", waves="w", guard={setting.name: setting.usual for setting in SETTINGS}, concurrent_max=5,
            starts_per_minute=6, known_since="k",
        ),
    )  # fmt: skip
    assert {name: value for name, (value,) in calls[0][2].items()} == {
        "App": "a", "FriendlyName": "n", "Waves": "w", "Limit": "0.05", "Confidence": "0.95", "MinimumSample": "5",
        "Soak": "600", "SilentAfter": "1800", "OfflineAfter": "86400", "OnUnproven": "hold", "RequireProof": "false",
        "MaxConcurrent": "5", "StartsPerMinute": "6", "KnownSince": "k",
    }  # fmt: skip


def test_every_parameter_of_the_api_can_be_given():
    """What the server takes and the client does not know could not be asked for on the command line."""
    from fleetvisor.api import rollouts

    assert {param.name for param in rollouts._CREATE} == {
        "App", "Selector", "Kind", "RollbackOf", "FriendlyName", "Waves", "MaxConcurrent", "StartsPerMinute",
        "KnownSince", *(setting.parameter for setting in SETTINGS),
    }  # fmt: skip
    assert {param.name for param in rollouts._CHANGE} == {
        "Action", "StartAt", "Wave", "MaxConcurrent", "StartsPerMinute",
    }  # fmt: skip


def test_actions_and_paces_go_to_the_rollout(answering, calls):
    rollouts = answering(ROLLOUT)
    rollouts.act(SID, "start", start_at="2026-01-31", concurrent_max=5, starts_per_minute=6)
    rollouts.act("a/b", "pause")
    rollouts.act(SID, concurrent_max=0)
    assert calls == [
        (
            "POST", f"/v1/Rollouts/{SID}",
            {"Action": ["start"], "StartAt": ["2026-01-31"], "MaxConcurrent": ["5"], "StartsPerMinute": ["6"]},
        ),
        ("POST", "/v1/Rollouts/a%2Fb", {"Action": ["pause"]}),
        ("POST", f"/v1/Rollouts/{SID}", {"MaxConcurrent": ["0"]}),
    ]  # fmt: skip


def test_a_plan_names_as_many_devices_as_are_asked_for(answering, calls):
    plan = {
        "rollout_sid": SID, "selected": 3, "beyond": 0,
        "waves": [{"position": 1, "size": "100%", "threshold": 1.0, "devices": 3, "unchanged": 1, "sample": ["UV1"]}],
        "left_out": [{"reason": "disabled", "devices": 1, "sample": []}],
    }  # fmt: skip
    rollouts = answering(plan)
    assert rollouts.plan(SID).waves[0].sample == ["UV1"]
    assert rollouts.plan(SID, 0).left_out[0].reason == "disabled"
    assert [path for _, path, _ in calls] == [f"/v1/Rollouts/{SID}/Plan", f"/v1/Rollouts/{SID}/Plan?Sample=0"]


def test_lists_are_walked_under_their_filter(answering, calls):
    decision = ROLLOUT["decision"]
    device = {"device_sid": "UV1", "wave": 1, "state": "failed", "error_code": 7}
    rollouts = answering({"rollouts": [ROLLOUT], "decisions": [decision], "rollout_devices": [device], "meta": {}})
    assert [one.sid for one in rollouts.list()] == [SID]
    assert [json.loads(one.document) for one in rollouts.decisions(SID)] == [decision]
    assert [one.error_code for one in rollouts.devices(SID, "failed")] == [7]
    assert [one.device_sid for one in rollouts.devices(SID)] == ["UV1"]
    asked = [(urlsplit(path).path, parse_qs(urlsplit(path).query).get("State")) for _, path, _ in calls]
    assert asked == [
        ("/v1/Rollouts", None),
        (f"/v1/Rollouts/{SID}/Decisions", None),
        (f"/v1/Rollouts/{SID}/Devices", ["failed"]),
        (f"/v1/Rollouts/{SID}/Devices", None),
    ]


def test_one_is_removed(answering, calls):
    answering(ROLLOUT).delete(SID)
    assert calls == [("DELETE", f"/v1/Rollouts/{SID}", {})]
