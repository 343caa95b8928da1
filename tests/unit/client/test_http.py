"""Requests: what is sent, what is tried again, and what an answer becomes."""

import json
import socket
import ssl

import httpx
import msgspec
import pytest
import stamina

from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.credentials import Server
from fleetvisor.client.http import Http

SERVER = Server(
    base_url="https://mv.example.com",
    account_sid="AC" + "0" * 32,
    auth_token="token",
    local_url="https://127.0.0.1:8443",
)


@pytest.fixture(autouse=True)
def no_waiting():
    with stamina.set_testing(testing=True, attempts=4, cap=True):
        yield


class Answers:
    """A transport that gives prepared answers (or raises them) and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def http(*answers):
    heard = Answers(*answers)
    return Http(SERVER, transport=httpx.MockTransport(heard)), heard


def problem(status, code=0, **headers):
    body = {"code": code, "status": status, "detail": "It is so.", "message": "m", "more_info": "u"}
    return httpx.Response(status, json=body, headers=headers)


def test_a_request_goes_to_the_local_address_for_the_public_name_with_the_credentials():
    calls, heard = http(httpx.Response(200, json={}))
    calls.get("/v1/Devices")
    [request] = heard.requests
    assert str(request.url) == "https://127.0.0.1:8443/v1/Devices"
    assert request.headers["host"] == "mv.example.com"
    assert request.extensions["sni_hostname"] == "mv.example.com"
    assert request.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status):
    calls, heard = http(problem(status, **{"Retry-After": "1"}), httpx.Response(200, content=b"{}"))
    assert calls.get("/v1/Devices") == b"{}"
    assert len(heard.requests) == 2


def test_a_lost_connection_is_made_again_for_a_get():
    calls, heard = http(httpx.RemoteProtocolError("gone"), httpx.Response(200, content=b"{}"))
    assert calls.get("/v1/Devices") == b"{}"
    assert len(heard.requests) == 2


@pytest.mark.parametrize("first", [httpx.RemoteProtocolError("gone"), problem(503, 20503), problem(429, 20429)])
def test_a_post_is_never_sent_twice(first):
    calls, heard = http(first)
    with pytest.raises((ApiProblem, Unreachable)):
        calls.post("/v1/Devices", {"UniqueName": "a"})
    assert len(heard.requests) == 1


def test_a_problem_of_the_caller_is_not_asked_again():
    calls, heard = http(problem(404, 20404))
    with pytest.raises(ApiProblem):
        calls.get("/v1/Devices/x")
    assert len(heard.requests) == 1


def test_a_server_that_asks_for_long_patience_is_not_waited_for():
    calls, heard = http(problem(503, 20503, **{"Retry-After": "3600"}))
    with pytest.raises(ApiProblem) as caught:
        calls.get("/v1/Devices")
    assert len(heard.requests) == 1
    assert caught.value.retry_after_s == 3600


def test_a_problem_keeps_its_number_its_detail_and_what_to_do():
    calls, _ = http(problem(401, 20003))
    with pytest.raises(ApiProblem) as caught:
        calls.get("/v1/Devices")
    assert (caught.value.code, caught.value.status, caught.value.detail) == (20003, 401, "It is so.")
    assert "Auth Token" in caught.value.hint


def test_a_fault_of_the_server_names_its_request_id():
    calls, _ = http(problem(500, 20500, **{"Twilio-Request-Id": "RQ1"}))
    with pytest.raises(ApiProblem) as caught:
        calls.get("/v1/Devices")
    assert "RQ1" in caught.value.hint


def test_an_error_page_of_a_proxy_is_still_a_problem():
    calls, _ = http(httpx.Response(502, text="<html>bad gateway"))
    with pytest.raises(ApiProblem) as caught:
        calls.get("/v1/Devices")
    assert caught.value.status == 502
    assert "proxy" in caught.value.hint


def test_a_redirect_is_never_followed():
    calls, heard = http(httpx.Response(302, headers={"Location": "https://elsewhere.example.com/"}))
    with pytest.raises(ApiProblem):
        calls.get("/v1/Devices")
    assert len(heard.requests) == 1


def page(items, following):
    return httpx.Response(200, json={"devices": items, "meta": {"next_page_url": following, "key": "devices"}})


def test_pages_are_followed_on_the_server_we_know_whatever_host_the_answer_names():
    """The answer's URLs are public ones; credentials never go to a host that an answer chose."""
    calls, heard = http(
        page([{"sid": "1"}], "https://evil.example.org/v1/Devices?PageSize=1&Page=1&PageToken=a%2Bb"),
        page([{"sid": "2"}], None),
    )
    found = [json.loads(bytes(item)) for item in calls.pages("/v1/Devices", "devices", 1)]
    assert found == [{"sid": "1"}, {"sid": "2"}]
    assert str(heard.requests[1].url) == "https://127.0.0.1:8443/v1/Devices?PageSize=1&Page=1&PageToken=a%2Bb"


def test_a_list_is_read_page_by_page_and_no_further_than_asked():
    calls, heard = http(page([{"sid": "1"}], "https://mv.example.com/v1/Devices?Page=1"))
    assert next(calls.pages("/v1/Devices", "devices", 1)) == msgspec.Raw(b'{"sid":"1"}')
    assert len(heard.requests) == 1


def test_a_page_that_is_no_json_is_a_server_not_understood():
    calls, _ = http(httpx.Response(200, text="<html>"))
    with pytest.raises(Unreachable, match="not understood"):
        list(calls.pages("/v1/Devices", "devices", 1))


def test_an_upload_streams_the_file_and_tells_how_far_it_is(tmp_path):
    file = tmp_path / "bundle.zip"
    file.write_bytes(bytes(200_000))
    calls, heard = http(httpx.Response(201, content=b"{}"))
    told = []
    calls.upload("/v1/Apps", file, {"UniqueName": "app-1"}, told.append)
    [request] = heard.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(request.headers["content-length"]) == len(request.content) > 200_000
    assert b'name="UniqueName"\r\n\r\napp-1' in request.content
    assert b'name="File"; filename="bundle.zip"' in request.content
    assert told[-1] == 200_000
    assert len(told) > 2


def test_a_form_is_sent_as_a_form_even_when_it_is_empty():
    calls, heard = http(httpx.Response(201, content=b"{}"), httpx.Response(200, content=b"{}"))
    calls.post("/v1/Devices", {})
    calls.post("/v1/Devices/x", {"UniqueName": "kiln & oven"})
    assert heard.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert heard.requests[1].content == b"UniqueName=kiln+%26+oven"


def test_a_name_without_an_address_has_a_hint_of_its_own():
    fault = httpx.ConnectError("[Errno -2] Name or service not known")
    fault.__cause__ = socket.gaierror(-2, "Name or service not known")
    for failure, word in ((fault, "DNS"), (httpx.ConnectError("[Errno 111] Connection refused"), "fleetvisor serve")):
        calls, _ = http(*[failure] * 4)
        with pytest.raises(Unreachable) as caught:
            calls.get("/v1/Devices")
        assert word in caught.value.hint


@pytest.mark.parametrize(("code", "word"), [(62, "--public-url https://mv.example.com"), (20, "FLEETVISOR_CA_FILE")])
def test_another_name_in_a_certificate_is_told_apart_from_another_authority(code, word):
    refusal = ssl.SSLCertVerificationError("certificate verify failed")
    refusal.verify_code, refusal.verify_message = code, "It is so."
    fault = httpx.ConnectError("certificate verify failed")
    fault.__cause__ = refusal
    calls, _ = http(fault)
    with pytest.raises(Unreachable) as caught:
        calls.get("/v1/Devices")
    assert caught.value.detail.endswith(": It is so.")
    assert word in caught.value.hint
