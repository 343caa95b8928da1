"""What ``doctor`` says of the local CA: whether it is valid now, and what to do when it is not."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fleetvisor.cli.checks import Check, Verdict
from fleetvisor.ground.clock import Millis


class _Told(msgspec.Struct, frozen=True):
    ca_file: str | None = None


def authority_check(directory: Path) -> Iterator[Check]:
    """Judge the CA that a data directory gives to clients; a server with a certificate of the operator's has none."""
    from cryptography import x509

    from fleetvisor.pki.ca import why_not_valid

    published = directory / "ca.pem"
    if not published.is_file() or not _serves_by_it(directory / "credentials.json"):
        return
    try:
        certificate = x509.load_pem_x509_certificate(published.read_bytes())
    except ValueError:
        yield Check(
            "CA", Verdict.FAIL, f"{published} is no certificate", "Restart the server: it writes the file anew."
        )
        return
    why = why_not_valid(certificate, Millis(int(time.time() * 1000)))
    if why is None:
        yield Check("CA", Verdict.OK, f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
        return
    advice = (
        "Set the clock, if that is wrong. Else the CA was made while the clock was wrong: restart the server with"
        " --new-ca, and give the new ca.pem to every device and program."
    )
    yield Check("CA", Verdict.FAIL, f"not valid now: {why}", advice)


def _serves_by_it(credentials: Path) -> bool:
    if not credentials.is_file():
        return True
    try:
        return msgspec.json.decode(credentials.read_bytes(), type=_Told).ca_file is not None
    except msgspec.MsgspecError:
        return True  # it says nothing about the CA, which is then judged
