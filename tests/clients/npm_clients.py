"""The JavaScript clients that ``scripts/other-clients`` installs as ``tests/clients/npm`` locks them, run unmodified."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".venv" / "npm-clients"
MODULES = INSTALLED / "libraries" / "node_modules"
CLI = INSTALLED / "cli" / "node_modules" / ".bin" / "twilio"
_SESSION = Path(__file__).parent / "npm" / "session.cjs"
_ENVIRONMENT = {"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_EDGE", "TWILIO_REGION", "NODE_OPTIONS"}


def _node_major() -> int:
    """The major version of the node on this machine, 0 without one."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return int(said.removeprefix("v").split(".")[0])


def needs_node(least: int = 14) -> pytest.MarkDecorator:
    """Skip where the clients cannot run, and say why."""
    if not MODULES.exists():
        return pytest.mark.skip(reason="the JavaScript clients are not installed: scripts/other-clients found no npm")
    found = _node_major()
    return pytest.mark.skipif(found < least, reason=f"node is older than {least}: {found or 'none'}")


def environment(server) -> dict[str, str]:
    """The environment after ``eval "$(fleetvisor env)"``, with nothing of the developer's that the clients read."""
    account, token = server.auth
    theirs = {
        name: value for name, value in os.environ.items() if name not in _ENVIRONMENT and "PROXY" not in name.upper()
    }
    ours = {"TWILIO_ACCOUNT_SID": account, "TWILIO_AUTH_TOKEN": token, "FLEETVISOR_URL": server.url}
    return theirs | ours | {"FLEETVISOR_CA_FILE": server.ca_file, "NODE_EXTRA_CA_CERTS": server.ca_file}


class Refused(Exception):
    """The client threw: ``error`` has its name, status, code, message and moreInfo."""

    def __init__(self, error: dict):
        super().__init__(error["message"])
        self.error = error
        self.status, self.code = error.get("status"), error.get("code")


class Session:
    """One node process with one client; called with the body of an async function, it gives what that returned."""

    def __init__(self, module: str, server):
        command = ["node", str(_SESSION), str(MODULES / module)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(server)
        )

    def __call__(self, code: str):
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End it; node leaves when its input ends."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)
