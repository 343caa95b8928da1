"""The tutorials' commands, run as they are printed (but for the port, which must be free)."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def blocks(page):
    text = (ROOT / "docs/tutorial" / page).read_text()
    return re.findall(r"^(?:<!-- test: (\w+) -->\n)?```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def wait_for(file, text="", seconds=20):
    deadline = time.monotonic() + seconds
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, f"{file} did not appear, or does not hold {text!r}"
        time.sleep(0.05)
    time.sleep(0.5)


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait(15)


@pytest.mark.parametrize(
    ("page", "ready", "shown"),
    [
        ("first-device.md", "idle", ['"update_status":"up-to-date"']),
        ("first-rollout.md", "20 idle", ["20 succeeded", "completed", "rollback of RO", "target_rollout"]),
    ],
)
def test_the_tutorial_works_as_it_is_printed(tmp_path, page, ready, shown):
    """Three terminals: the server's, that of the devices, and the one after it. Each has only what is typed there."""
    place = tmp_path / "checkout"
    place.mkdir()
    shutil.copytree(ROOT / "examples", place / "examples")
    (place / ".venv").symlink_to(Path(sys.prefix))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETVISOR_")}
    elsewhere = [folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "fleetvisor").exists()]
    environment |= {"PATH": ":".join(elsewhere), "LC_ALL": "C.UTF-8"}
    found = blocks(page)
    kinds = [kind for kind, _ in found]
    first, second = kinds.index("server"), kinds.index("background")

    def bash(text, **more):
        script = f"set -eu\n{text}"
        return subprocess.Popen(["bash", "-c", script], cwd=place, env=environment, text=True, **more)

    def serve():
        before = "".join(text for _, text in found[:first])
        return bash(f"{before}exec {found[first][1].strip()} --port 0", start_new_session=True)

    def be_devices(output):
        *typed, last = "".join(text for _, text in found[first + 1 : second + 1]).strip().splitlines()
        return bash("\n".join([*typed, f"exec {last}"]), stdout=output, stderr=STDOUT)

    with ExitStack() as running:
        running.callback(stop, serve())
        wait_for(place / "fleet/credentials.json")
        output = running.enter_context((tmp_path / "devices.log").open("w"))
        running.callback(stop, be_devices(output))
        wait_for(tmp_path / "devices.log", ready)
        third = bash("".join(text for kind, text in found[second + 1 :] if not kind), stdout=PIPE, stderr=STDOUT)
        out, _ = third.communicate(timeout=90)
        assert third.returncode == 0, out
        for text in shown:
            assert text in out or text in out.replace(" ", ""), out
    [cleanup] = [text for kind, text in found if kind == "cleanup"]
    subprocess.run(["bash", "-euc", cleanup], cwd=place, check=True)
    assert {path.name for path in place.iterdir()} == {"examples", ".venv"}
