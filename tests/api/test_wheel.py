"""The wheel, built as pyproject.toml says and without a network: everything that the server ships is in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "fleetvisor"
FIRMWARE = ROOT / "examples" / "firmware"
LOOK = """
from pathlib import Path
import fleetvisor
from fleetvisor.cli.stage import VERSIONS, shipped_firmware
from fleetvisor.db.migrate import migrations
from fleetvisor.protocol.firmware import load_firmware

assert len(migrations()) >= 2
for version in VERSIONS:
    load_firmware(shipped_firmware() / f"{version}.elf")
print(Path(fleetvisor.__file__).parent, shipped_firmware())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    build = [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Where the wheel is unpacked; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(folder), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_every_file_of_the_program_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
        firmware = archive.read("fleetvisor/cli/firmware/blinker-v2.elf")
    source = {
        f"fleetvisor/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    extra = {f"fleetvisor/cli/firmware/blinker-v{number}.elf" for number in (1, 2)}
    assert held == source | extra
    assert {"fleetvisor/db/migrations/0001_main_job.sql", "fleetvisor/api/static/swagger-ui-bundle.js"} <= held
    assert firmware == (FIRMWARE / "blinker-v2.elf").read_bytes()
    assert {"METADATA", "entry_points.txt"} <= about
    assert any(name.endswith("LICENSE") for name in about)


@pytest.mark.parametrize("program", [["-m", "fleetvisor.cli.main"], ["bin/fleetvisor"]])
def test_the_command_line_runs_from_the_wheel(installed, tmp_path, program):
    if program[0] != "-m":
        program = [str(installed / program[0])]
    done = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "serve" in done.stdout


def test_what_the_program_reads_from_beside_itself_is_there(installed, tmp_path):
    look = [sys.executable, "-c", LOOK]
    env = {"PYTHONPATH": str(installed), "PATH": ""}
    done = subprocess.run(look, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / "fleetvisor"), str(installed / "fleetvisor/cli/firmware")]
