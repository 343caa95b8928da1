"""The headers that keep browsers and caches from doing harm: on every answer, of every edge."""

import pytest
from tests.api.test_ddi import Board
from tests.api.world import BASE

from fleetvisor.db.sqlite import memory
from fleetvisor.web.safety import made_safe


@pytest.fixture
def engine():
    """No engine differs here."""
    return memory()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/docs"),
        ("GET", "/docs/static/docs.js"),
        ("GET", "/openapi.json"),
        ("GET", "/ca.pem"),
        ("GET", "/nothing"),
        ("POST", "/healthz"),
        ("GET", "/v1/Devices"),
        ("HEAD", "/v1/Devices"),
        ("OPTIONS", "/v1/Devices"),
        ("PUT", "/v1/Devices"),
        ("GET", "/v1/Devices/nobody"),
        ("GET", "/v1/Devices?Selector=a+b+c"),
        ("GET", "/device/v1/desired"),
        ("GET", "/device/v1/openapi.json"),
        ("POST", "/device/v1/enroll"),
        ("GET", "/DEFAULT/controller/v1/nobody"),
    ],
)
async def test_no_answer_may_be_taken_for_a_script(hands, method, path):
    reply = await hands.call(method, path)
    assert reply.response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "strict-transport-security" not in reply.headers


async def test_polls_and_downloads_of_devices_say_it_too(server, hands):
    made, app = await hands.device(), await hands.app("v1")
    await hands.post(f"/v1/Devices/{made['sid']}", TargetApp=app["sid"])
    bearer = {"authorization": f"Bearer {made['device_token']}"}
    board = Board(server, made)
    answers = [await server.hands.http.get(BASE + "/device/v1/desired", headers=bearer)]
    answers.append(
        await server.hands.http.get(
            BASE + "/device/v1/desired", headers=bearer | {"if-none-match": answers[0].headers["etag"]}
        )
    )
    answers.append(await board.call("GET"))
    answers.append(await board.call("GET", ok=304, if_none_match=answers[2].headers["etag"]))
    assert [answer.status_code for answer in answers] == [200, 304, 200, 304]
    assert [answer.headers.get_list("x-content-type-options") for answer in answers] == [["nosniff"]] * 4


async def test_no_answer_with_a_secret_may_be_stored(hands):
    device = await hands.device("d")
    made = [
        await hands.post("/v1/Keys", ok=201, Role="viewer"),
        await hands.post("/v1/AuthTokens/Secondary", ok=201),
        await hands.post("/v1/GatewayToken", ok=201),
        await hands.post("/v1/EnrollmentTokens", ok=201),
        await hands.post(f"/v1/Devices/{device['sid']}/Credentials", ok=201, Type="token"),
        await hands.get("/v1/Devices/d"),
        await hands.get("/v1/Devices/nobody", ok=404),
    ]
    assert [reply.response.headers.get_list("cache-control") for reply in made] == [["no-store"]] * len(made)


async def test_https_alone_is_asked_for_by_setting():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 304, "headers": ((b"etag", b"x"),)})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message):
        sent.append(message)

    await made_safe(app, hsts_s=3600)({}, None, send)
    assert sent[0]["headers"] == (
        (b"etag", b"x"),
        (b"x-content-type-options", b"nosniff"),
        (b"strict-transport-security", b"max-age=3600"),
    )
    assert len(sent) == 2


async def test_whoever_hears_of_an_answer_hears_of_its_beginning_alone_and_may_change_it():
    heard, sent = [], []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": ()})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message):
        sent.append(message)

    def began(scope, message):
        heard.append((scope["path"], message["status"]))
        message["headers"] = (*message["headers"], (b"connection", b"close"))

    await made_safe(app, began=[began])({"path": "/x"}, None, send)
    assert heard == [("/x", 204)]
    assert sent[0]["headers"] == ((b"x-content-type-options", b"nosniff"), (b"connection", b"close"))
