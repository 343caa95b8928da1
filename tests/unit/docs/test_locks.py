"""Whatever is installed to build, run or test Fleetvisor is locked by hash, and the base image by its digest."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
INSTALLS = re.compile(
    r"""\bpip3?\b.*[\s"'](?:install|download|wheel)\b|\$\(PIP\)|\bnpm (?:i|ci|install|exec)\b|\b(?:npx|pipx|uvx|easy_install) """
    r"""|\buv (?:pip|sync|tool|run)\b|\b(?:yarn|pnpm|gem|cargo|go) (?:add|install)\b"""
)
PROVEN = ("--require-hashes", "--no-index", "npm ci ", "--package-lock-only")
NAMED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)
HOST = re.compile(r"://|--(?:extra-)?index-url|--find-links|--trusted-host|(?<![\w-])-[if] ")


def commands():
    """Give each place that installs something, with its statement: a line of a script with what continues it."""
    files = [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "compose.yaml", *(ROOT / ".ci").iterdir()]
    files += [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    files += [path for folder in ("bench", "tests", "src") for path in (ROOT / folder).rglob("*.py")]
    files += [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    found = []
    for path in files:
        if path == Path(__file__):
            continue
        text = path.read_text().replace("\\\n", " ")
        for line in re.split(r"\n|&&|\|\|", text):
            if INSTALLS.search(line) and not line.lstrip().startswith("PIP :="):
                found.append((str(path.relative_to(ROOT)), " ".join(line.split())))
    return found


def test_nothing_is_installed_without_hashes():
    """An install names a lock with hashes, or reads no index at all."""
    found = commands()
    assert {name for name, _ in found} >= {"Makefile", "Dockerfile", "scripts/other-clients", "bench/goosebit.py"}
    open_to_others = [(name, line) for name, line in found if not any(word in line for word in PROVEN)]
    assert not open_to_others, f"lock these by hash (--require-hashes -r FILE), or say --no-index: {open_to_others}"


def test_fleetvisor_itself_is_built_by_the_locked_backend_alone():
    """An isolated build would fetch hatchling, and what hatchling needs, by name."""
    built = [(name, line) for name, line in commands() if re.search(r" (?:-e )?\.(?:\"?\)?$)", line)]
    assert {name for name, _ in built} == {"Makefile", "Dockerfile"}
    assert all("--no-build-isolation" in line and "--no-index" in line for _, line in built), built


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_a_hash_for_each_package_and_names_no_host(path):
    lines = path.read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9][\w.\[\],-]*==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry
        assert not HOST.search(entry), entry


def test_a_package_has_one_version_in_all_locks_that_are_installed_together():
    build, run, dev = (
        dict(NAMED.findall((ROOT / f"requirements{kind}.lock").read_text())) for kind in ("-build", "", "-dev")
    )
    assert {name: version for name, version in build.items() if {**run, **dev}.get(name, version) != version} == {}
    assert {name: version for name, version in run.items() if dev.get(name, version) != version} == {}


def test_the_build_backend_of_pyproject_is_the_locked_one():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = dict(NAMED.findall((ROOT / "requirements-build.lock").read_text()))
    assert wanted == [f"hatchling=={locked['hatchling']}"]


def test_javascript_is_locked_by_hash_and_names_no_host():
    for path in (ROOT / "tests/clients/npm").glob("*/package-lock.json"):
        text = path.read_text()
        assert '"resolved"' not in text, path
        assert text.count('"integrity": "sha512-') == len(re.findall(r'^    "node_modules/', text, re.MULTILINE)), path


def test_images_are_named_by_digest():
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE)
    own = {name for _, name in stages}
    foreign = [image for image, _ in stages if image not in own]
    assert foreign
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in foreign), foreign
    assert "image:" not in (ROOT / "compose.yaml").read_text()


def test_what_the_dockerfile_copies_is_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert copied
    assert [name for line in copied for name in line.split() if name.removeprefix("./") not in allowed] == []


def test_the_server_needs_what_it_imports_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", each)[0] for each in project["dependencies"]}
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    modules = {name: {"protobuf": "google.protobuf"}.get(name, name.replace("-", "_")) for name in names}
    unused = [
        name for name, module in modules.items() if not re.search(rf"^\s*(?:from|import) {module}\b", sources, re.M)
    ]
    assert not unused, f"remove from pyproject.toml and requirements.lock what nothing imports: {unused}"
