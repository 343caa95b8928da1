"""Processes under measure: nginx, wrk and our server, each pinned to a core, their CPU time read from /proc.

Deliberately no statistics: ``bench/__main__`` has them.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = "0", "1"
EXPECT = Path(__file__).resolve().parent / "expect.lua"
NGINX_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; sendfile on; tcp_nopush on;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
    scgi_temp_path {dir}/s;
    server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3; root {dir}/www;
    }}
}}
"""


@dataclass(frozen=True)
class Sample:
    """One run of wrk: requests answered, in how many seconds, and the CPU seconds the server took for them."""

    requests: int
    seconds: float
    cpu_s: float
    errors: int

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the server per request."""
        return self.cpu_s / max(self.requests, 1) * 1e6

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def cpu_seconds(pid: int) -> float:
    """Read the CPU time, user and system, that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    """Read the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wrk(
    url: str, pid: int, *, seconds: float, connections: int, headers: dict[str, str], expect: int | None = None
) -> Sample:
    """Load ``url`` from the other core and measure the server ``pid``; any status but ``expect`` raises."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "10s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command += ["-s", str(EXPECT), url, "--", str(expect)] if expect else [url]
    before = cpu_seconds(pid)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout} {done.stderr}")
    spent = cpu_seconds(pid) - before
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return Sample(int(found[1]), float(found[2]) * unit, spent, int(bad[1]) if bad else 0)


def free_port() -> int:
    """Find a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certify(directory: Path) -> None:
    """Write a P-256 certificate of 127.0.0.1, its key, and the authority that signed it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")


@contextlib.contextmanager
def nginx(directory: Path, port: int, files: dict[str, bytes]) -> Iterator[int]:
    """Run nginx over TLS on one core with static ``files``, under a P-256 certificate; give its process id."""
    (directory / "www").mkdir(parents=True)
    for name, content in files.items():
        (directory / "www" / name).write_bytes(content)
    certify(directory)
    (directory / "nginx.conf").write_text(NGINX_CONFIG.format(dir=directory, port=port))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, binary, "-c", str(directory / "nginx.conf")])
    try:
        time.sleep(0.5)
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {(directory / 'error.log').read_text()}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)
