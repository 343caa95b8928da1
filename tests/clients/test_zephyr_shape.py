"""A client of the shape of Zephyr's hawkBit subsystem, over TLS 1.2 and a socket: the forms that it insists on.

It has 1,100 bytes for each JSON answer, takes exactly one chunk named ``bApp`` with one artifact, cuts the deployment's
link at ``deploymentBase/`` into 50 bytes, finds its download by the text ``/DEFAULT/controller/v1`` in ``download-http``,
keeps 200 bytes of that path, and proves what it got by SHA-256. It polls under ``/default/``.
"""

import hashlib
import json
import socket
import ssl

import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import running

pytestmark = pytest.mark.service

BUFFER = 1100
FIRMWARE = b"\x00\x01\x02\x03" * 5000


class Zephyr:
    """One connection for each request, as the subsystem makes them."""

    def __init__(self, server, sid, token):
        self.context = ssl.create_default_context(cafile=server.ca_file)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        address = server.url.removeprefix("https://")
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self.sid, self.token = sid, token

    def request(self, method, path, body=None):
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Authorization: TargetToken {self.token}"]
        if content:
            lines += ["Content-Type: application/json;charset=UTF-8", f"Content-Length: {len(content)}"]
        raw = "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content
        with (
            socket.create_connection((self.host, self.port), 10) as plain,
            self.context.wrap_socket(plain, server_hostname=self.host) as tls,
        ):
            assert tls.version() == "TLSv1.2"
            tls.sendall(raw)
            answer = b""
            while piece := tls.recv(BUFFER):
                answer += piece
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), rest

    def ask(self, method, path, body=None):
        status, raw = self.request(method, path, body)
        assert status == 200, raw
        assert len(raw) <= BUFFER, f"{len(raw)} bytes do not fit"
        return json.loads(raw) if raw else None

    @property
    def base(self):
        return f"/default/controller/v1/{self.sid}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("zephyr") / "data") as server:
        yield server


def test_a_zephyr_shaped_device_installs_its_update(server):
    context = ssl.create_default_context(cafile=server.ca_file)
    with httpx.Client(base_url=server.url, auth=server.auth, verify=context) as rest:
        files = {"File": ("bundle.zip", simple_bundle(FIRMWARE), "application/zip")}
        app = rest.post("/v1/Apps", files=files, data={"UniqueName": "n" * 64}).json()
        made = rest.post("/v1/Devices").json()
        path = f"/v1/Devices/{made['sid']}"
        board = Zephyr(server, made["sid"], made["device_token"])

        poll = board.ask("GET", board.base)
        board.ask("PUT", poll["_links"]["configData"]["href"].removeprefix(server.url), {
            "mode": "merge", "data": {"VIN": "JH4TB2H26CC000000", "customerId": "demo"},
        })  # fmt: skip
        assert rest.post(path, data={"TargetApp": app["sid"]}).status_code == 200

        poll = board.ask("GET", board.base)
        hours, minutes, seconds = map(int, poll["config"]["polling"]["sleep"].split(":"))
        assert (hours * 60 + minutes) * 60 + seconds == 5
        href = poll["_links"]["deploymentBase"]["href"]
        tail = href[href.index("deploymentBase/") :]
        assert len(tail) < 50
        deployment = board.ask("GET", f"{board.base}/{tail}")
        (chunk,) = deployment["deployment"]["chunks"]
        assert chunk["part"] == "bApp"
        (artifact,) = chunk["artifacts"]
        link = artifact["_links"]["download-http"]["href"]
        download = link[link.index("/DEFAULT/controller/v1") :]
        assert len(download) < 200
        status, content = board.request("GET", download)
        assert (status, len(content)) == (200, artifact["size"])
        assert hashlib.sha256(content).hexdigest() == artifact["hashes"]["sha256"]

        action = int(deployment["id"])
        body = {"id": str(action), "status": {"execution": "closed", "result": {"finished": "success"}, "details": []}}
        board.ask("POST", f"{board.base}/deploymentBase/{action}/feedback", body)
        device = rest.get(path).json()
        assert (device["app"]["reported_sid"], device["update"]["state"]) == (app["sid"], "succeeded")
        assert rest.get(path + "/Attributes").json()["attributes"]["customerId"] == "demo"
