"""The tutorials' commands, run as they are printed (but for the port, which must be free)."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def blocks(page):
    text = (ROOT / "docs/tutorial" / page).read_text()
    return re.findall(r"^```sh(?: (\w+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def wait_for(file, seconds=20):
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.05)
    time.sleep(0.5)


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("first-device.md", ['"update_status":"up-to-date"']),
        ("first-rollout.md", ["20 succeeded", "completed", "rollback of RO", "target_rollout"]),
    ],
)
def test_the_tutorial_works_as_it_is_printed(tmp_path, page, shown):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETVISOR_")}
    environment |= {"PATH": path, "LC_ALL": "C.UTF-8"}
    found = blocks(page)
    [server] = [text for kind, text in found if kind == "server"]
    [agent] = [text for kind, text in found if kind == "background"]
    serving = subprocess.Popen(
        ["bash", "-c", f"exec {server.strip()} --port 0"], cwd=tmp_path, env=environment, start_new_session=True
    )
    try:
        wait_for(tmp_path / "fleet/credentials.json")
        lines = ["set -eu"]
        for kind, text in found:
            if kind == "background":
                lines.append(f"{agent.strip()} & agent=$!; trap 'kill $agent; wait $agent || true' EXIT")
            elif not kind:
                lines.append(text)
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for text in shown:
            assert text in done.stdout or text in done.stdout.replace(" ", ""), done.stdout
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(15)
    [cleanup] = [text for kind, text in found if kind == "cleanup"]
    subprocess.run(["bash", "-euc", cleanup], cwd=tmp_path, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"examples", ".venv"}
