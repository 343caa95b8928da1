"""The page "Use the clients you have": its lines run as printed, and its way to change no line of a program."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.npm_clients import CLI, MODULES, ROOT, environment, needs_node
from tests.corpus import simple_bundle
from tests.server import running

pytestmark = [
    pytest.mark.service,
    needs_node(20),
    pytest.mark.skipif(not CLI.exists(), reason="npm is older than 10, or missing"),
]

PAGE = ROOT / "docs" / "how-to" / "use-existing-clients.md"
MARK = re.compile(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)
REGISTER = 'curl --fail --cacert "$FLEETVISOR_CA_FILE" -o answer -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" "$FLEETVISOR_URL/v1/Devices"'
PATH = os.pathsep.join([str(Path(sys.executable).parent), str(CLI.parent), os.environ["PATH"]])

# What runs in them ends with them.
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# In namespaces of its own: the old name leads to this machine, and port 443 is free.
UNCHANGED = """
python - <<'END'
import fcntl, socket, struct
with socket.socket() as any_one:
    fcntl.ioctl(any_one, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: lo up
END
cp /etc/hosts hosts
echo 127.0.0.1 microvisor.twilio.com >> hosts
mount --bind hosts /etc/hosts
fleetvisor serve --data ./data --host 0.0.0.0 --port 443 --public-url https://microvisor.twilio.com >log 2>&1 &
served=$!
for _ in $(seq 100); do grep -q server.ready log && break; sleep 0.1; done
eval "$(fleetvisor env --data ./data)"
for name in one two three; do curl -sS --fail --cacert "$FLEETVISOR_CA_FILE" -o answer -d UniqueName=$name \
  -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" https://microvisor.twilio.com/v1/Devices; done
python -c 'from twilio.rest import Client
print([device.unique_name for device in Client().microvisor.v1.devices.stream(page_size=2)])'
node -e 'require("twilio")().microvisor.v1.devices.list({pageSize: 2}).then(
  (devices) => console.log(devices.map((device) => device.uniqueName)))'
twilio api:microvisor:v1:devices:list --page-size 2 --properties uniqueName --no-header
kill $served
wait $served
"""


def script_of(page):
    """The blocks of the page as one shell script: programs are run by what runs them."""
    runs = {"shell": "{}", "python": "python - <<'PYTHON'\n{}PYTHON", "node": "node - <<'NODE'\n{}NODE"}
    return "\n".join(runs[kind].format(text) for kind, text in MARK.findall(page))


def test_the_lines_of_the_page_work_as_printed(tmp_path):
    (tmp_path / "bundle.zip").write_bytes(simple_bundle(b"firmware" * 20))
    first, rest = script_of(PAGE.read_text()).split("\n", 1)
    registered = "\n".join(f"{REGISTER} -d UniqueName={name}" for name in ("boiler-6", "boiler-7"))
    with running(tmp_path / "data") as server:
        clean = {
            name: value for name, value in environment(server).items() if not name.startswith(("FLEETV", "TWILIO"))
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([first, registered, rest])],
            cwd=tmp_path, env=clean | {"PATH": PATH, "NODE_PATH": str(MODULES), "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^UV\w+ boiler-7 up-to-date$", done.stdout, re.MULTILINE)) == 2
    assert '"value": "60"' in done.stdout


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None
    or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0,
    reason="no namespaces may be made here",
)  # fmt: skip
def test_programs_find_a_server_under_the_old_name_without_a_changed_line(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETV", "TWILIO", "NODE_"))}
    done = subprocess.run(
        [*NAMESPACES, "bash", "-euo", "pipefail", "-c", UNCHANGED],
        cwd=tmp_path, env=clean | {"PATH": PATH, "NODE_PATH": str(MODULES), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.strip() for line in done.stdout.splitlines()]
    assert found == ["['three', 'two', 'one']", "[ 'three', 'two', 'one' ]", "three", "two", "one"]
