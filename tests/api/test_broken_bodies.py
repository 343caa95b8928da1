"""Bodies that cannot be read to their end, as the server below the application says: over real sockets."""

import base64
import json

import httpx
import pytest
from tests.server import connect, context, healthz, running

pytestmark = [pytest.mark.service, pytest.mark.slow]

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MALFORMED = [
    b"zz\r\nabc\r\n",
    b"5\r\nabcdefg\r\n0\r\n\r\n",
    b"-1\r\na\r\n",
    b"fffffffffffffffff\r\na\r\n",
    b"5 5\r\nabcde\r\n",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("bodies") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def calls(server):
    """One call of each edge that reads a body, and two that read none: method, path, type, credentials, more."""
    basic = "Basic " + base64.b64encode(":".join(server.auth).encode()).decode()
    made = httpx.post(
        f"{server.url}/v1/Devices",
        auth=server.auth,
        verify=context(server),
        data={"Sid": "UV" + "1" * 32, "UniqueName": "board"},
    ).json()
    token = made["device_token"]
    polled = httpx.get(
        f"{server.url}/device/v1/desired", verify=context(server), headers={"authorization": f"Bearer {token}"}
    )
    wait = f"if-none-match: {polled.headers['etag']}\r\nprefer: wait=20\r\n"
    return [
        ("POST", "/v1/Devices", FORM, basic, ""),
        ("POST", "/v1/Apps", "multipart/form-data; boundary=x", basic, ""),
        ("POST", "/device/v1/report", JSON, f"Bearer {token}", ""),
        ("POST", "/device/v1/enroll", JSON, f"Bearer {token}", ""),
        ("GET", "/device/v1/desired", JSON, f"Bearer {token}", wait),
        ("PUT", "/default/controller/v1/board/configData", JSON, f"TargetToken {token}", ""),
        ("POST", "/default/controller/v1/board/deploymentBase/1/feedback", JSON, f"TargetToken {token}", ""),
    ]


def send(server, call, body):
    method, path, kind, credentials, more = call
    connection = connect(server)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {credentials}\r\ncontent-type: {kind}\r\n"
    connection.sendall(f"{head}{more}transfer-encoding: chunked\r\n\r\n".encode() + body)
    return connection


def read(connection):
    """The whole answer: the connection is closed behind it."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_chunked_body_is_400_with_five_fields_on_every_edge(server, calls, body):
    for call in calls:
        with send(server, call, body) as connection:
            status, answer = read(connection)
        assert status == 400, (call[:2], status, answer)
        assert set(json.loads(answer)) == {"code", "detail", "message", "more_info", "status"}, call[:2]


def test_who_is_refused_before_the_body_is_read_still_gets_the_answer(server):
    """A connection that is closed with bytes unread is reset, and takes the answer with it."""
    head = b"POST /v1/Devices HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic eDp5\r\ncontent-length: "
    for size in (60_000, 900_000):
        for _ in range(15):
            with connect(server) as connection:
                connection.sendall(head + b"%d\r\n\r\n" % size + bytes(size))
                assert read(connection)[0] in {401, 429}


def test_a_body_that_is_cut_in_the_middle_leaves_nothing_behind(server, calls):
    for call in calls:
        send(server, call, b"5\r\nab").close()
    assert healthz(server) == 200
    assert "request.failed" not in server.log.read_text()
