"""The shell lines of README run as they are printed, against a server started as README says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.server import running

pytestmark = pytest.mark.service

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"<!-- test: shell -->\n```sh\n(.*?)```", re.DOTALL)


def test_the_shell_lines_of_readme_work_as_printed(tmp_path):
    """Only the place of the program differs: the test runs beside the checkout, not in it."""
    (block,) = MARK.findall((ROOT / "README.md").read_text())
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = block.replace("/tmp/blinker.zip", str(tmp_path / "blinker.zip"))
    with running(tmp_path / "data"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"update_status":"pending"' in done.stdout
