"""The page "Run it for others": its shell blocks run as printed, and its key may do what the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.server import context, running

pytestmark = pytest.mark.service

PAGE = Path(__file__).parents[2] / "docs/how-to/run-it-for-others.md"
EXAMPLE = PAGE.parents[2] / "examples/enroll.py"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_on_running_it_for_others_works_as_printed(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FLEETVISOR")}

    def shell(script, **more):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env=plain | {"PATH": path} | more, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 6
    with running(tmp_path / "fleet"):
        done = shell("\n".join(blocks))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "key.created" in done.stdout
        told = json.loads((tmp_path / "fleet/credentials.json").read_text())
        key = json.loads((tmp_path / "ci-key.json").read_text())
        job = {
            "FLEETVISOR_URL": told["base_url"],
            "FLEETVISOR_CA_FILE": told["ca_file"],
            "FLEETVISOR_ACCOUNT_SID": key["sid"],
            "FLEETVISOR_AUTH_TOKEN": key["secret"],
        }
        made = shell(
            "echo x > f; fleetvisor apps create f app-1 --kind raw; fleetvisor rollouts create app-1 --all", **job
        )
        assert made.returncode == 0, made.stderr
        assert shell("fleetvisor enrollment create", **job).returncode == 4


def test_the_example_enrols_a_board_and_is_told_the_same_sid_again(tmp_path):
    with running(tmp_path / "fleet") as server:
        made = httpx.post(
            f"{server.url}/v1/EnrollmentTokens", auth=server.auth, verify=context(server), data={"FriendlyName": "line"}
        ).json()
        command = [sys.executable, EXAMPLE, server.url, made["token"], "board.pem", server.data / "ca.pem"]
        told = [
            subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
            for _ in range(2)
        ]
        answer = httpx.get(f"{server.url}/v1/Devices", auth=server.auth, verify=context(server)).json()
    assert [json.loads(each)["sid"] for each in told] == [device["sid"] for device in answer["devices"]] * 2
    assert (tmp_path / "board.pem").stat().st_mode & 0o777 == 0o600
