"""A PostgreSQL server for tests: made in a temporary directory, on a free loopback port, stopped by its process id.

As root it runs as the user ``postgres``, because PostgreSQL refuses to run as root. Its databases sort text as English
does, as many an operator's will: whatever depends on the order of text must say which order it means.
"""

import contextlib
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_numbers = itertools.count(1)


def binaries() -> Path | None:
    """Find the newest installed server's programs; ``None`` when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).parent if elsewhere else None


class Cluster:
    """A running server; ``url`` gives a new, empty database."""

    def __init__(self, port: int, bin_dir: Path) -> None:
        self.port = port
        self._bin = bin_dir

    def url(self, *options: str) -> str:
        """Make a database with ``createdb``'s options; give its URL."""
        name = f"test_{next(_numbers)}"
        self._run("createdb", *options, name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *args: str) -> None:
        command = [str(self._bin / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *args]
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server for the block. Raises ``RuntimeError`` when PostgreSQL is not installed."""
    bin_dir = binaries()
    if bin_dir is None:
        raise RuntimeError("PostgreSQL is not installed (Debian's package is postgresql)")
    with tempfile.TemporaryDirectory(prefix="fleetvisor-pg-") as folder:
        root = Path(folder)
        data = root / "data"
        become: dict[str, object] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(root, user.pw_uid, user.pw_gid)
            become = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        initdb = [str(bin_dir / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*initdb, *_english(bin_dir), "--no-sync"], check=True, capture_output=True, cwd=root, **become)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(root),
            "fsync": "off",
            "max_connections": "120",
        }
        command = [str(bin_dir / "postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, **become)
            try:
                _wait(bin_dir, port, process, root / "log")
                yield Cluster(port, bin_dir)
            finally:
                process.send_signal(signal.SIGINT)  # at once, also when a test left a connection open
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _english(bin_dir: Path) -> list[str]:
    """Give initdb's options for English; before version 15 they are others, and bytes must do."""
    told = subprocess.run([str(bin_dir / "initdb"), "--version"], check=True, capture_output=True, text=True).stdout
    version = int(re.search(r"\) (\d+)", told)[1])
    return ["--locale-provider=icu", "--icu-locale=en-US"] if version >= 15 else []


def _wait(bin_dir: Path, port: int, process: subprocess.Popen, log: Path) -> None:
    ready = [str(bin_dir / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
        if subprocess.run(ready, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not answer within ten seconds")
