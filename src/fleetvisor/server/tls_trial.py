"""A trial of a certificate and its key: the library that serves is asked, in a process of its own.

Granian's TLS library ends the process when it cannot use a file, and takes fewer keys than OpenSSL and Python's
libraries do. So its verdict is found before anything depends on it: a child process serves with the files on a
loopback port and shakes hands with itself. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

import asyncio
import contextlib
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Final

from fleetvisor.server.files import StartFault
from fleetvisor.server.held import Held, HeldPath
from fleetvisor.server.listener import Doors
from fleetvisor.web.requests import Receive, Scope, Send

SERVED_KEYS: Final = "ECDSA keys on P-256 and P-384, RSA keys of 2048 to 8192 bits, and Ed25519 keys"
_TIMEOUT_S: Final = 60.0
_MODULE: Final = "fleetvisor.server.tls_trial"
_HANDSHAKE_S: Final = 20.0


def try_held(held: Held) -> str | None:
    """Return why a held certificate and key cannot be served with; ``None`` when a TLS handshake came to its end."""
    command = [sys.executable, "-m", _MODULE, *map(str, held.paths)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            pass_fds=held.descriptors,
        )
    except subprocess.TimeoutExpired:
        return f"a trial of them did not end within {_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"they cannot be tried ({error.strerror})"
    return None if done.returncode == 0 else "the TLS library does not take them"


async def _unasked(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Answer nothing: the trial ends with the handshake."""


async def shake_hands(cert: Path, key: Path) -> None:
    """Serve with the files, and connect once. Raises ``StartFault``, ``OSError``."""
    doors = Doors(address="127.0.0.1", connections_max=4, backlog=4, header_bytes_max=0)
    port = doors.take(0)
    await doors.open(_unasked, cert, key)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE  # whether clients trust the certificate is not the question here
    async with asyncio.timeout(_HANDSHAKE_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    await doors.close(1)


def main() -> None:
    """Try the two files that are named; exit with 0 when they can be served with."""
    cert, key = (HeldPath(name) for name in sys.argv[1:3])
    try:
        asyncio.run(shake_hands(cert, key))
    except (OSError, StartFault, TimeoutError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    main()
