"""A server without the firmware that its database names does not start by mistake, and starts when that is asked for."""

import json
import shutil

import httpx
import pytest
from tests.api.test_serving import serve
from tests.corpus import simple_bundle
from tests.server import context, running

pytestmark = [pytest.mark.service, pytest.mark.slow]

FIRMWARE = [b"firmware of one kind " * 99, b"firmware of another kind " * 99]


def rest(server):
    return httpx.Client(base_url=server.url, auth=server.auth, verify=context(server), timeout=20)


def upload(client, data, status=201):
    answer = client.post("/v1/Apps", files={"File": ("x.zip", simple_bundle(data))})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data directory with two apps, whose server has ended."""
    directory = tmp_path_factory.mktemp("lost") / "data"
    with running(directory) as server, rest(server) as client:
        for firmware in FIRMWARE:
            upload(client, firmware)
    return directory


@pytest.fixture
def data(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "data")


def test_a_start_without_the_firmware_is_refused_and_one_that_asks_for_it_heals_by_uploads(data):
    shutil.rmtree(data / "blobs")
    for _ in range(2):
        refused = serve("--data", data, "--port", "0", "--json", seconds=60)
        assert refused.returncode == 1
        assert "holds none of the firmware" in refused.stderr
        assert "--blobs-lost" in refused.stderr
        (data / "blobs" / "lost+found").mkdir(parents=True, exist_ok=True)  # a volume that is new, or another one
    with running(data, "--blobs-lost") as server, rest(server) as client:
        assert [app["damaged"] for app in client.get("/v1/Apps").json()["apps"]] == [True, True]
        assert len(client.get("/v1/Events", params={"Type": "app.damaged"}).json()["events"]) == 2
        upload(client, FIRMWARE[0])
        assert sorted(app["damaged"] for app in client.get("/v1/Apps").json()["apps"]) == [False, False, True]


def test_the_doctor_finds_a_flipped_bit_and_a_lost_directory(data, command):
    def firmware(*options):
        done = command("--data", data, "--json", "doctor", *options)
        found = {each["check"]: each for each in map(json.loads, done.out.splitlines())}["firmware"]
        assert found["verdict"] != "fail" or done.code == 1
        return found

    for options in ((), ("--blobs",)):
        assert firmware(*options)["verdict"] == "ok"
    [path, *_] = (data / "blobs").glob("layers/*/*")
    damaged = bytearray(path.read_bytes())
    damaged[7] ^= 1
    path.write_bytes(damaged)
    for options in ((), ("--blobs",)):
        found = firmware(*options)
        assert found["verdict"] == "fail"
        assert path.name[:64] in found["finding"]
        assert "of 2 layers" in found["finding"]
    path.unlink()
    assert "1 of them missing" in firmware()["finding"]
    shutil.rmtree(data / "blobs" / "layers")
    found = firmware()
    assert found["verdict"] == "fail"
    assert "--blobs-lost" in found["advice"]
