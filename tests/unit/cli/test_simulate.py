"""What is said of a swarm, and what a file of devices must hold."""

import pytest

from fleetvisor.cli.options import Usage
from fleetvisor.cli.simulate import _read, summary, swarm_url
from fleetvisor.client.credentials import Server


def test_a_swarm_is_summed_up_in_a_line():
    devices = [("idle", "a" * 64), ("idle", "a" * 64), ("downloading", None)]
    assert summary(devices, 4) == "3 of 4 on · 2 idle · 1 downloading | 2 run aaaaaaaaaaaa, 1 run nothing"
    assert summary([], 4) == "0 of 4 on"


def test_a_file_of_devices_is_what_devices_create_wrote(tmp_path):
    file = tmp_path / "devices"
    file.write_text('{"sid":"UV1","device_token":"t","x":1}\n\n{"sid":"UV2","device_token":"u"}\n')
    assert _read(file) == [("UV1", "t"), ("UV2", "u")]


@pytest.mark.parametrize("text", ["UV1 t\n", '{"sid":"UV1"}\n'])
def test_a_file_of_something_else_is_refused(text, tmp_path):
    (tmp_path / "devices").write_text(text)
    with pytest.raises(Usage):
        _read(tmp_path / "devices")


def test_devices_call_the_local_address_unless_its_certificate_is_for_the_public_name_only(tmp_path):
    server = Server(
        base_url="https://mv.example.com", account_sid="AC", auth_token="t", local_url="https://127.0.0.1:1"
    )
    assert swarm_url(server) == "https://mv.example.com"
    local = Server(
        base_url="https://mv.example.com", account_sid="AC", auth_token="t", local_url="https://127.0.0.1:1",
        ca_file=tmp_path,
    )  # fmt: skip
    assert swarm_url(local) == "https://127.0.0.1:1"
