"""The shipped configurations of nginx, Caddy and HAProxy, each with a real server behind it."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
import trustme
from tests.server import running

EXAMPLES = Path(__file__).parents[2] / "examples/proxy"
PROXIES = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
CLIENT = "127.0.0.2"
pytestmark = pytest.mark.service


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Behind:
    """A server behind a proxy, and clients that call the proxy from an address of their own."""

    def __init__(self, server, url, context):
        self.server, self.url, self.context = server, url, context
        self.rest = self.client(auth=server.auth)

    def client(self, **options):
        transport = httpx.HTTPTransport(verify=self.context, local_address=CLIENT)
        return httpx.Client(base_url=self.url, transport=transport, timeout=30, **options)

    def device(self, name, **form):
        answer = self.rest.post("/v1/Devices", data={"UniqueName": name, **form})
        assert answer.status_code == 201, answer.text
        return answer.json()


def configured(name, folder, public, local, ca_file, authority):
    """Write the shipped configuration with this test's ports and files in the place of its examples."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    both = folder / "both.pem"
    both.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems) + issued.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    text = (EXAMPLES / PROXIES[name]).read_text()
    for shipped, ours in (
        ("/etc/ssl/fleet.example.com.both.pem", str(both)),
        ("/etc/ssl/fleet.example.com.pem", str(folder / "cert.pem")),
        ("/etc/ssl/fleet.example.com.key", str(folder / "key.pem")),
        ("/etc/fleetvisor/ca.pem", ca_file),
        ("127.0.0.1:8443", local),
        ("https://fleet.example.com:443", f"https://127.0.0.1:{public}"),
        ("listen 443", f"listen 127.0.0.1:{public}"),
        ("bind :443", f"bind 127.0.0.1:{public}"),
    ):
        text = text.replace(shipped, ours)
    path = folder / PROXIES[name]
    path.write_text(text)
    return path


def command(name, config, folder):
    match name:
        case "nginx":
            return [
                "nginx",
                "-p",
                str(folder),
                "-e",
                "stderr",
                "-c",
                str(config),
                "-g",
                f"daemon off; pid {folder}/pid;",
            ]
        case "caddy":
            return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        case _:
            return ["haproxy", "-f", str(config), "-db"]


@contextlib.contextmanager
def proxy(name, config, folder, port):
    """Run the proxy until the end of the block, by its process id."""
    log = folder / "proxy.log"
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("wb") as sink:
        process = subprocess.Popen(command(name, config, folder), stdout=sink, stderr=sink, env=environment)
    try:
        end = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=list(PROXIES))
def behind(request, tmp_path_factory):
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (make test gets it as root)")
    folder, public = tmp_path_factory.mktemp(name), free_port()
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    authority = trustme.CA()
    url = f"https://127.0.0.1:{public}"
    options = ("--public-url", url, "--trusted-proxy", "127.0.0.1")
    with running(folder / "data", *options) as server:
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(Path(server.ca_file).read_bytes())
        local = server.credentials["local_url"].removeprefix("https://")
        config = configured(name, folder, public, local, str(ca_file), authority)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with proxy(name, config, folder, public):
            made = Behind(server, url, context)
            yield made
            made.rest.close()


@pytest.mark.parametrize("name", list(PROXIES))
def test_the_shipped_configuration_has_what_the_test_replaces(name):
    text = (EXAMPLES / PROXIES[name]).read_text()
    assert "127.0.0.1:8443" in text
    assert "/etc/fleetvisor/ca.pem" in text
    assert re.search(r":443|listen 443", text)
    assert "320s" in text


def test_urls_in_answers_are_those_that_clients_call(behind):
    for number in range(3):
        behind.device(f"listed-{number}")
    body = behind.rest.get("/v1/Devices", params={"PageSize": 2}).json()
    assert body["meta"]["next_page_url"].startswith(behind.url + "/v1/Devices?")
    assert body["devices"][0]["url"].startswith(behind.url)
    assert behind.rest.get(body["meta"]["next_page_url"]).status_code == 200


def test_a_held_poll_is_answered_at_the_change_and_at_its_end(behind):
    made = behind.device("held")
    with behind.client(headers={"authorization": f"Bearer {made['device_token']}"}) as board:
        etag = board.get("/device/v1/desired").headers["etag"]
        began = time.monotonic()
        unchanged = board.get("/device/v1/desired", headers={"if-none-match": etag, "prefer": "wait=2"})
        assert unchanged.status_code == 304
        assert unchanged.headers["preference-applied"] == "wait=2"
        assert 1.9 <= time.monotonic() - began < 10
        threading.Timer(1, behind.rest.post, ("/v1/Devices/held",), {"data": {"RestartApp": "true"}}).start()
        began = time.monotonic()
        changed = board.get("/device/v1/desired", headers={"if-none-match": etag, "prefer": "wait=20"})
        assert changed.status_code == 200
        assert time.monotonic() - began < 5


def test_firmware_goes_up_and_down_and_by_ranges(behind):
    content = os.urandom(24 << 20)
    answer = behind.rest.post(
        "/v1/Apps", data={"Kind": "raw", "UniqueName": "large"}, files={"File": ("f.bin", content)}
    )
    assert answer.status_code == 201, answer.text
    made = behind.device("downloads")
    digest = answer.json()["hash"].removeprefix("sha256:")
    with behind.client(headers={"authorization": f"Bearer {made['device_token']}"}) as board:
        assert board.get(f"/device/v1/layers/{digest}").content == content
        part = board.get(f"/device/v1/layers/{digest}", headers={"range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, content[1000:2000])


def test_a_name_arrives_as_it_was_encoded(behind):
    made = behind.device("line 3 1 ä", ControllerId="line 3 #1 ä")
    token = {"authorization": f"TargetToken {made['device_token']}"}
    with behind.client(headers=token) as board:
        assert board.get("/DEFAULT/controller/v1/line%203%20%231%20%C3%A4").status_code == 200
        assert board.get("/DEFAULT/controller/v1/line%203%20%25231%20%C3%A4").status_code == 401
    behind.rest.post("/v1/Configs", data={"Key": "a+b", "Value": "v"})
    assert behind.rest.get("/v1/Configs/a%2Bb").json()["key"] == "a+b"
    assert behind.rest.get("/v1/Configs/a%252Bb").status_code == 404
    assert behind.rest.get("/v1/Configs/a%2Fb").status_code == 404


@pytest.mark.parametrize(
    "forged",
    [{}, {"x-forwarded-for": "198.51.100.9"}, {"forwarded": "for=198.51.100.9"}, {"x-real-ip": "198.51.100.9"}],
)
def test_a_client_cannot_choose_its_address(behind, forged):
    answer = behind.rest.post("/v1/Devices", headers=forged)
    assert answer.status_code == 201, answer.text
    events = behind.rest.get("/v1/Events", params={"DeviceSid": answer.json()["sid"]}).json()["events"]
    assert [event["address"] for event in events] == [CLIENT]


def test_what_a_trusted_proxy_contradicts_itself_in_is_400(behind):
    server = behind.server
    context = ssl.create_default_context(cafile=server.ca_file)
    headers = [("x-forwarded-for", "198.51.100.9"), ("x-forwarded-for", "198.51.100.10")]
    with httpx.Client(base_url=server.credentials["local_url"], verify=context, auth=server.auth) as trusted:
        answer = trusted.get("/v1/Devices", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, 20001)
        assert trusted.get("/v1/Devices", headers=headers[:1]).status_code == 200
    stranger = httpx.HTTPTransport(verify=context, local_address=CLIENT)
    with httpx.Client(base_url=server.credentials["local_url"], transport=stranger, auth=server.auth) as other:
        made = other.post("/v1/Devices", headers=headers).json()
        (event,) = other.get("/v1/Events", params={"DeviceSid": made["sid"]}).json()["events"]
        assert event["address"] == CLIENT
