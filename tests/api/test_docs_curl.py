"""The page "Write your own agent" works as it stands: every block is run, every shown output compared."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.server import running

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/write-your-own-agent.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page):
    """Give each shell block with the output that the page shows below it (``None``: it shows none)."""
    found = []
    for kind, text in BLOCK.findall(page):
        if kind == "sh":
            found.append([text, None])
        elif kind == "text":
            found[-1][1] = text.strip()
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_conversation_of_the_page_runs_as_printed(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    blocks = steps(PAGE.read_text())
    assert len(blocks) > 12
    script = ["set -eu"]
    for number, (text, _) in enumerate(blocks):
        script += [f"exec > output-{number}.txt", text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETVISOR", "CURL"))}
    with running(tmp_path / "fleet"):
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=tmp_path,
            env=plain | {"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert done.returncode == 0, done.stderr
    for number, (text, shown) in enumerate(blocks):
        if shown is not None:
            assert (tmp_path / f"output-{number}.txt").read_text().strip() == shown, text
    held = (tmp_path / "desired.head").read_text()
    assert held.startswith("HTTP/1.1 200")


def test_the_page_names_every_call_of_the_device_api():
    page = PAGE.read_text()
    for path in ("/desired", "/manifests/", "/layers/", "/report", "/configs/fetch"):
        assert f"$DEVICE{path}" in page
