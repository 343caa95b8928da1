"""gooseBit, another OTA server in Python, as a peer: installed from its lock file, migrated, filled and run.

Its environment is ``.venv-goosebit``, made anew when ``requirements-goosebit.lock`` changes. The database is SQLite,
made by gooseBit's own migrations; the devices are written into it directly, because its API makes them one by one. The
first user comes from ``POST /setup``, as on its set-up page. One uvicorn process, as its documents run it, here with
TLS and without its access log (we write none either). Deliberately no comparison: ``bench/versus`` has it.
"""

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import SERVER_CORE, certify, free_port

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-goosebit.lock"
HOME = ROOT / ".venv-goosebit"
INSTALL_S = 170
ROLLOUT, FINISHED = 3, 5
"""gooseBit's numbers for a device that follows rollouts (the default) and whose last update ended well."""


class Unavailable(Exception):
    """gooseBit cannot be had here; the message says why."""


@dataclass(frozen=True)
class GooseBit:
    """A running gooseBit, and what the cases ask it for."""

    pid: int
    version: str
    url: str
    ca_file: str
    bearer: str
    device: str
    device_token: str


def install() -> Path:
    """Give the Python of gooseBit's environment, made now if the lock file changed; raise ``Unavailable``."""
    python, stamp = HOME / "bin" / "python", HOME / ".lock"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for command in ([sys.executable, "-m", "venv", "--clear", str(HOME)], [*pip, "-r", str(LOCK)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(str(error)) from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            raise Unavailable((lines or [f"{command[0]} ended with {done.returncode}"])[-1])
    stamp.write_text(wanted)
    return python


def _ask(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _migrate(python: Path, directory: Path, environment: dict[str, str]) -> None:
    package = Path(_ask(python, "import importlib.util as u; print(u.find_spec('goosebit').origin)")).parent
    config = directory / "aerich.toml"
    config.write_text(
        '[tool.aerich]\ntortoise_orm = "goosebit.db.config.TORTOISE_CONF"\n'
        f'location = "{package / "db" / "migrations"}"\nsrc_folder = "."\n'
    )
    done = subprocess.run(
        [python.parent / "aerich", "--config", config, "upgrade"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"gooseBit's migrations failed: {done.stdout}{done.stderr}")


def _fill(database: Path, count: int) -> tuple[str, str]:
    """Insert devices that are up to date; give id and token of one in the middle."""
    now = int(time.time())
    rows = [
        (f"bench-{number:06}", f"device-{number}", "1.0.0", ROLLOUT, FINISHED, now, secrets.token_hex(16))
        for number in range(count)
    ]
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        db.execute("INSERT INTO hardware (id, model, revision) VALUES (1, 'default', 'default')")
        db.executemany(
            "INSERT INTO device (id, name, sw_version, hardware_id, update_mode, last_state, last_seen, auth_token)"
            " VALUES (?, ?, ?, 1, ?, ?, ?, ?)",
            rows,
        )
    return rows[count // 2][0], rows[count // 2][-1]


def _call(url: str, ca_file: str, *, form: dict[str, str] | None = None, authorization: str = "") -> bytes:
    data = urllib.parse.urlencode(form).encode() if form else None
    request = urllib.request.Request(url, data, {"Authorization": authorization} if authorization else {})
    context = ssl.create_default_context(cafile=ca_file)
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return answer.read()


def _first_user(process: subprocess.Popen[bytes], url: str, ca_file: str, log: Path) -> str:
    """Wait until the server answers, make the first user, and give its ``Authorization``."""
    form = {"username": "bench@example.org", "password": secrets.token_hex(16)}
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError):
            found = json.loads(_call(f"{url}/setup", ca_file, form=form))
            return f"Bearer {found['access_token']}"
        time.sleep(0.1)
    raise RuntimeError(f"gooseBit did not start: {log.read_text()}")


def _settings(directory: Path) -> dict[str, str]:
    """Give the environment: its defaults, but device tokens checked on each poll, as ours are."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("GOOSEBIT_", "PYTHONPATH"))}
    return {
        **ours,
        "GOOSEBIT_DB_URI": f"sqlite://{directory / 'db.sqlite3'}",
        "GOOSEBIT_ARTIFACTS_DIR": str(directory / "artifacts"),
        "GOOSEBIT_DEVICE_AUTH__ENABLE": "true",
        "GOOSEBIT_DEVICE_AUTH__MODE": "strict",
    }


@contextlib.contextmanager
def running(python: Path, directory: Path, devices: int) -> Iterator[GooseBit]:
    """Run gooseBit with ``devices`` devices on the servers' core."""
    directory.mkdir(parents=True)
    certify(directory)
    environment = _settings(directory)
    _migrate(python, directory, environment)
    device, token = _fill(directory / "db.sqlite3", devices)
    port, log, ca_file = free_port(), directory / "server.log", str(directory / "ca.pem")
    command = ["taskset", "-c", SERVER_CORE, str(python), "-m", "uvicorn", "goosebit:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    command += ["--ssl-certfile", str(directory / "cert.pem"), "--ssl-keyfile", str(directory / "key.pem")]
    with log.open("ab") as sink:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=sink, stderr=sink)
    try:
        url = f"https://127.0.0.1:{port}"
        bearer = _first_user(process, url, ca_file, log)
        version = _ask(python, "import importlib.metadata as m; print(m.version('goosebit'))")
        answer = _call(f"{url}/DEFAULT/controller/v1/{device}", ca_file, authorization=f"TargetToken {token}")
        if json.loads(answer)["_links"]:
            raise RuntimeError(f"gooseBit's device is not up to date: {answer.decode()}")
        yield GooseBit(process.pid, version, url, ca_file, bearer, device, token)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
