"""What holds for every path: the suffix, the methods, the encoding, the errors, the headers."""

import json

import pytest
from tests.api.world import FIRST_NUMBER, AnyLog, Reply, check_problem, serving

from fleetvisor.db.database import DatabaseBusy
from fleetvisor.db.sqlite import memory

FORM = {"content-type": "application/x-www-form-urlencoded"}


# The .json suffix


async def test_every_path_may_end_in_json(hands):
    made = await hands.device("d")
    app = await hands.app("v1")
    await hands.post("/v1/Devices/d.json", TargetApp="v1")
    await hands.post("/v1/Configs.json", ok=201, Key="k", Value="v")
    await hands.post("/v1/Devices/d/Secrets.json", ok=201, Key="k", Value="v")
    assert (await hands.get("/v1/Devices.json", PageSize=1))["devices"][0]["sid"] == made["sid"]
    assert (await hands.get(f"/v1/Devices/{made['sid']}.json"))["sid"] == made["sid"]
    assert (await hands.get("/v1/Devices/d/Updates.json"))["updates"][0]["number"] == FIRST_NUMBER
    assert (await hands.get(f"/v1/Devices/d/Updates/{FIRST_NUMBER}.json"))["number"] == FIRST_NUMBER
    assert (await hands.get("/v1/Apps/v1.json"))["sid"] == app["sid"]
    assert (await hands.get("/v1/Apps/v1/Manifest.json"))["app_sid"] == app["sid"]
    assert (await hands.post("/v1/Configs/k.json", Value="w"))["value"] == "w"
    await hands.delete("/v1/Devices/d/Secrets/k.json")
    await hands.delete("/v1/Devices/d.json")
    await hands.get("/v1/Devices/d", ok=404)


async def test_an_exact_match_wins_over_the_suffix(hands):
    for key in ("app", "app.json"):
        await hands.post("/v1/Configs", ok=201, Key=key, Value=key)
    assert (await hands.get("/v1/Configs/app.json"))["value"] == "app.json"
    assert (await hands.get("/v1/Configs/app.json.json"))["value"] == "app.json"
    await hands.post("/v1/Configs/app.json", Value="new")
    assert (await hands.get("/v1/Configs/app"))["value"] == "app"
    await hands.delete("/v1/Configs/app.json")
    assert (await hands.get("/v1/Configs/app.json"))["value"] == "app", "the suffix is stripped where nothing has it"


async def test_a_write_to_a_suffixed_path_reads_its_body_once(hands):
    """Without parameters too: the second look must not wait for a body that was read."""
    await hands.device("d")
    await hands.post("/v1/Devices/d.json")
    await hands.post("/v1/Devices/nobody.json", ok=404)
    await hands.post("/v1/Devices/nobody.json", ok=404, LoggingEnabled="true")


@pytest.mark.parametrize(
    "path", ["/v1/Devices/.json", "/v1/.json", "/v1/Devices/d.json/Configs", "/v1/Devices.json.json"]
)
async def test_the_suffix_alone_names_nothing(hands, path):
    await hands.device("d")
    await hands.get(path, ok=404)


# Paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v1/", "/v1/Devices/", "/v1/devices", "/v1//Devices", "/v2/Devices", "/v1/Devices/d/Nothing", "/",
        "/v1/Devices/d/Configs/k/", "/v1/Devices/d/Configs/k/more", "/v1/Configs//", "/v1/Apps/x/Manifests", "/nothing",
        "/docs/", "/healthz/", "/v1/Devices%2Fd", "/v1/Devices/d%2FConfigs", "/v1/../v1/Nothing",
    ],
)  # fmt: skip
async def test_another_path_is_not_found(hands, path):
    await hands.device("d")
    assert (await hands.get(path, ok=404))["code"] == 20404


async def test_the_message_of_a_404_names_what_was_asked_for(hands):
    body = (await hands.get("/v1/Devices/nobody", ok=404)).json
    assert body["message"] == "The requested resource /v1/Devices/nobody was not found"
    assert body["detail"] == "No Device matches the given identifier."
    long = (await hands.get("/v1/Devices/" + "x" * 5000, ok=404)).text
    assert len(long) < 1000


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/Devices", "GET, OPTIONS, POST"),
        ("DELETE", "/v1/Devices", "GET, OPTIONS, POST"),
        ("PATCH", "/v1/Devices/d", "DELETE, GET, OPTIONS, POST"),
        ("POST", "/v1/Apps/v1", "DELETE, GET, OPTIONS"),
        ("DELETE", "/v1/Apps/v1/Manifest", "GET, OPTIONS"),
        ("PUT", "/v1/Accounts", "GET, OPTIONS, POST"),
        ("DELETE", "/v1/Accounts", "GET, OPTIONS, POST"),
        ("DELETE", "/v1/Configs", "GET, OPTIONS, POST"),
        ("TRACE", "/v1/Configs/k", "DELETE, GET, OPTIONS, POST"),
        ("PROPFIND", "/v1/Devices/d/Updates/1", "GET, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/docs", "GET, HEAD"),
    ],
)
async def test_another_method_is_told_the_right_ones(hands, method, path, allow):
    reply = await hands.call(method, path, ok=405)
    assert reply.headers["allow"] == allow
    if method != "HEAD":
        assert reply["code"] == 20004


async def test_head_is_get_without_the_body(hands):
    await hands.device("d")
    got = await hands.get("/v1/Devices/d")
    head = await hands.call("HEAD", "/v1/Devices/d", ok=200)
    assert head.text == ""
    assert head.headers["content-length"] == got.headers["content-length"]
    missing = await hands.call("HEAD", "/v1/Devices/nobody", ok=404)
    assert missing.text == ""


# Text


@pytest.mark.parametrize("bad", ["%00", "%FF", "%C3%28", "%ED%A0%80", "a%00b", "%F4%90%80%80", "%C0%AF"])
async def test_what_is_no_text_is_refused_everywhere(hands, bad):
    """NUL, invalid UTF-8, lone surrogates and overlong forms: in paths, queries, form values and names."""
    await hands.device("d")
    raw = bad.encode()
    replies = [
        await hands.get(f"/v1/Devices/{bad}", ok=400),
        await hands.get(f"/v1/Devices/d/Configs/{bad}", ok=400),
        await hands.get(f"/v1/{bad}", ok=400),
        await hands.get(f"/v1/Devices?PageToken={bad}", ok=400),
        await hands.get(f"/v1/Devices?{bad}=1", ok=400),
        await hands.post("/v1/Devices/d", ok=400, content=b"UniqueName=" + raw, headers=FORM),
        await hands.post("/v1/Devices/d", ok=400, content=raw + b"=x", headers=FORM),
        await hands.post("/v1/Configs", ok=400, content=b"Key=k&Value=" + raw, headers=FORM),
        await hands.post("/v1/Configs/" + bad, ok=400, Value="v"),
        await hands.delete("/v1/Apps/" + bad, ok=400),
    ]
    assert {reply["code"] for reply in replies} == {20001}


async def test_raw_bytes_in_a_form_are_judged_too(hands):
    await hands.device("d")
    for raw in (b"UniqueName=\xff", b"UniqueName=a\0", b"\xff=a"):
        await hands.post("/v1/Devices/d", ok=400, content=raw, headers=FORM)
    reply = await hands.post("/v1/Devices/d", content="UniqueName=Küche+7%20x".encode(), headers=FORM)
    assert reply["unique_name"] == "Küche 7 x"


async def test_a_path_is_decoded_once(hands):
    await hands.device("aA")
    assert (await hands.get("/v1/Devices/a%41"))["unique_name"] == "aA"
    assert (await hands.get("/v1/Devices/a%2541", ok=404)).status == 404, "it asks for a%41"
    assert (await hands.get("/v1/Devices/a+b", ok=404)).status == 404, "a plus is a plus in a path"


# Bodies


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "application/json"}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=x"},
     {"content-type": "application/x-www-form-urlencoded; charset=utf-16"}],
)  # fmt: skip
async def test_a_body_that_is_no_form_is_refused(hands, headers):
    await hands.device("d")
    for path in ("/v1/Devices/d", "/v1/Configs", "/v1/Keys"):
        assert (await hands.post(path, ok=415, content=b"a=b", headers=headers))["code"] == 20415


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "APPLICATION/X-WWW-FORM-URLENCODED", "application/x-www-form-urlencoded; charset=UTF-8",
     'application/x-www-form-urlencoded;charset="utf-8"'],
)  # fmt: skip
async def test_a_form_may_be_named_in_several_ways(hands, content_type):
    await hands.post("/v1/Configs", ok=201, content=b"Key=k&Value=v", headers={"content-type": content_type})


async def test_no_body_needs_no_type(hands):
    await hands.device("d")
    await hands.call("POST", "/v1/Devices/d", ok=200)
    await hands.call("POST", "/v1/Devices/d", ok=200, headers={"content-type": "application/json"})
    await hands.call("GET", "/v1/Devices", ok=200, headers=FORM)


async def test_a_large_form_is_refused(hands):
    reply = await hands.post("/v1/Configs", ok=413, Key="k", Value="v" * (64 << 10))
    assert reply["code"] == 20413


async def test_a_form_has_a_bounded_number_of_parameters(hands):
    await hands.post("/v1/Configs", ok=400, content=b"a&" * 2000, headers=FORM)


@pytest.mark.parametrize("body", [b"&", b"=", b"&&=&", b"%", b"%zz=%", b"a", b"+", b"=x"])
async def test_an_odd_form_is_no_fault(hands, body):
    await hands.device("d")
    await hands.post("/v1/Devices/d", content=body, headers=FORM)


async def test_a_body_must_arrive_in_time(tmp_path):
    import asyncio

    async with serving(memory(), tmp_path, request_time_s=0.05) as server:

        async def slow():
            yield b"Key=k"
            await asyncio.sleep(0.2)
            yield b"&Value=v"

        reply = await server.hands.post("/v1/Configs", ok=503, content=slow(), headers=FORM)
        assert reply["code"] == 20503
        await server.hands.get("/v1/Configs/k", ok=404)


# Headers


async def test_every_answer_has_a_request_id_of_its_own(server, hands):
    replies = [
        await hands.get("/v1/Devices"),
        await hands.get("/v1/Devices/x", ok=404),
        await hands.get("/v1/Devices?PageSize=x", ok=400),
        await server.nobody().get("/v1/Devices", ok=401),
        await server.nobody().get("/healthz"),
        await hands.call("OPTIONS", "/v1/Devices"),
        await hands.call("PUT", "/v1/Devices"),
    ]
    ids = {reply.headers["twilio-request-id"] for reply in replies}
    assert len(ids) == len(replies)
    assert all(len(request_id) == 34 and request_id.startswith("RQ") for request_id in ids)


async def test_a_page_of_any_origin_may_call_the_api(server, hands):
    """Preflights need no credentials; the answers to the calls, errors too, may be read; no cookie ever counts."""
    asking = {"origin": "https://dash.example", "access-control-request-method": "POST"}
    preflight = await server.nobody().call("OPTIONS", "/v1/Devices/d", ok=204, headers=asking)
    for reply in (preflight, await hands.get("/v1/Devices"), await server.nobody().get("/v1/Devices", ok=401)):
        assert reply.headers["access-control-allow-origin"] == "*"
        assert set(reply.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "DELETE", "OPTIONS"}
        assert reply.headers["access-control-allow-headers"] == "Content-Type, Authorization"
        assert "Twilio-Request-Id" in reply.headers["access-control-expose-headers"]
        assert reply.headers["access-control-allow-credentials"] == "false"
    assert "access-control-allow-origin" not in (await hands.get("/healthz")).headers


async def test_a_deletion_has_no_body_and_no_type(hands):
    await hands.device("d")
    reply = await hands.delete("/v1/Devices/d")
    assert reply.text == ""
    assert "content-type" not in reply.headers
    assert "content-length" not in reply.headers


# Faults


async def test_a_busy_database_is_told_with_a_time_to_wait(server, hands, monkeypatch):
    async def busy(*_):
        raise DatabaseBusy("locked")

    monkeypatch.setattr(server.world.devices, "get", busy)  # no database is busy on demand
    reply = await hands.get("/v1/Devices/d", ok=503)
    assert reply["code"] == 20503
    assert int(reply.headers["retry-after"]) >= 1
    assert "locked" not in reply.text


async def test_a_fault_of_ours_is_logged_and_not_shown(tmp_path, monkeypatch):
    log = AnyLog()
    async with serving(memory(), tmp_path, log=log) as server:

        async def broken(*_):
            raise RuntimeError("the inside story")

        # a mistake of the program's own, which it does not have
        monkeypatch.setattr(server.world.devices, "get", broken)
        reply = await server.hands.get("/v1/Devices/d", ok=500)
        assert reply["code"] == 20500
        assert "inside" not in reply.text
        assert any("inside story" in repr(fields.get("exc_info")) for _, fields in log.lines)


async def test_log_lines_carry_the_request_id(tmp_path, monkeypatch):
    import structlog

    async with serving(memory(), tmp_path) as server:
        seen = []

        async def look(*_):
            seen.append(structlog.contextvars.get_contextvars()["request_id"])
            raise RuntimeError

        monkeypatch.setattr(server.world.devices, "get", look)  # looks at the request's context from inside
        reply = await server.hands.get("/v1/Devices/d", ok=500)
        assert seen == [reply.headers["twilio-request-id"]]


async def test_a_missing_raw_path_is_no_fault(server):
    """Some servers give only the decoded path."""
    from base64 import b64encode

    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    basic = b"Basic " + b64encode(":".join(server.hands.auth).encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/Devices",
        "query_string": b"",
        "headers": [(b"authorization", basic)],
    }
    await server.world.app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["devices"] == []


def test_the_checker_of_problems_checks():
    class Fake:
        status_code, headers, text = 404, {"content-type": "application/json"}, "{}"

        def json(self):
            return {"code": 1}

    with pytest.raises(AssertionError):
        check_problem(Reply(Fake()))
