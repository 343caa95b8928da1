"""``fleetvisor doctor``: what could be wrong with a server and the way to it, each with what to do.

Looks and changes nothing. What needs the data directory is left out when only the environment names the server.
Deliberately one connection, one request of each kind: it is safe to run on a busy server.
"""

import fcntl
import os
import resource
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
import typer

from fleetvisor.cli.checks import Check, Verdict
from fleetvisor.cli.doctor_blobs import blob_check, count_layers
from fleetvisor.cli.doctor_certificates import authority_check
from fleetvisor.cli.doctor_database import judge_database, no_database
from fleetvisor.cli.doctor_keys import given_keys_check
from fleetvisor.cli.doctor_names import name_check
from fleetvisor.cli.options import Failure, Session
from fleetvisor.client.answers import OTHER_NAME, ApiProblem, Unreachable, reach_hint
from fleetvisor.client.credentials import NoServer, Server

if TYPE_CHECKING:
    from fleetvisor.client.http import Http

DESCRIPTORS_MIN: Final = 4096
DISK_WARN_BYTES: Final = 1 << 30
DISK_FAIL_BYTES: Final = 100 << 20
CERTIFICATE_WARN_DAYS: Final = 30
CERTIFICATE_FAIL_DAYS: Final = 3
CLOCK_WARN_S: Final = 5
CLOCK_FAIL_S: Final = 60
_TIMEOUT_S: Final = 10


class _Health(msgspec.Struct, frozen=True):
    status: str
    degraded: dict[str, str] = {}


def doctor(
    session: Session,
    blobs: Annotated[
        bool, typer.Option("--blobs", help="Check all stored firmware instead of a sample (with --data).")
    ] = False,
) -> None:
    """Look at a server's lock, files, database, firmware, certificate, clock, name and disk; say what to do.

    Each is ok, warn or fail; the exit status is 1 when one is fail.
    """
    checks: list[Check] = []
    for check in _examine(session, blobs):
        checks.append(check)
        if session.out.json:
            session.out.line(msgspec.json.encode(check))
    if not session.out.json:
        session.out.table(("check", "verdict", "finding"), [(c.check, c.verdict, c.finding) for c in checks])
        for check in checks:
            if check.verdict is not Verdict.OK and check.advice:
                session.out.warn(f"{check.check}: {check.advice}")
    bad = [check.check for check in checks if check.verdict is Verdict.FAIL]
    if bad:
        raise Failure(f"Not well: {', '.join(bad)}.", None)


def _examine(session: Session, blobs: bool) -> Iterator[Check]:
    if session.data is not None:
        try:
            yield from directory_checks(session.data)
            yield from authority_check(session.data)
            if session.data.is_dir():
                yield judge_disk(shutil.disk_usage(session.data).free)
                if (database := session.data / "fleetvisor.db").is_file():
                    yield judge_database(database)
                    yield name_check(database)
                else:
                    yield no_database(database)
                total = count_layers(session.data / "fleetvisor.db") if blobs else 0
                with session.out.counter("Proving firmware", total) as progress:
                    yield from list(blob_check(session.data, every=blobs, progress=progress))
        except OSError as error:
            finding, advice = f"{error.filename}: {error.strerror}", "Run doctor as the user who runs the server."
            yield Check("data directory", Verdict.FAIL, finding, advice)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_descriptors(soft, hard)
    try:
        server = session.server
        tls = server.tls()
    except NoServer as problem:
        yield Check("credentials", Verdict.FAIL, problem.detail, problem.hint)
        return
    yield judge_name(server.host, _resolves(server.host))
    yield _certificate(server, tls)
    yield from _answers(session.http)


def directory_checks(directory: Path) -> Iterator[Check]:
    """Look at a data directory: its lock, and who may read its secrets."""
    from fleetvisor.server.files import open_to_others

    if not directory.is_dir():
        there = directory.exists()
        finding = f"{directory} is {'not a directory' if there else 'missing'}"
        advice = "Give the directory of a server." if there else f"Start: fleetvisor serve --data {directory}"
        yield Check("data directory", Verdict.FAIL, finding, advice)
        return
    if locked(directory / "lock"):
        yield Check("lock", Verdict.OK, "a server runs on this data directory")
    else:
        advice = f"Start: fleetvisor serve --data {directory}"
        yield Check("lock", Verdict.WARN, "no server runs on this data directory", advice)
    private = [directory / "keys", directory / "tls"]
    secret = [directory, directory / "credentials.json", *private]
    secret += [path for folder in private if folder.is_dir() for path in sorted(folder.iterdir())]
    if loose := open_to_others(path for path in secret if path.exists()):
        listed = " ".join(str(path) for path in loose)
        yield Check("modes", Verdict.FAIL, f"others may read {listed}", f"Run: chmod go= {listed}")
    else:
        yield Check("modes", Verdict.OK, "only their owner may read the keys and credentials")
    yield judge_owner(directory.stat().st_uid, os.geteuid())
    yield from given_keys_check(directory)
    keys = sorted(directory.glob("keys/seal-*.key"))
    wrong = [path.name for path in keys if path.stat().st_size != 32]
    if wrong:
        advice = "Put back the files from where you keep the sealing keys: without them no secret can be read."
        yield Check("sealing keys", Verdict.FAIL, f"not 32 bytes: {', '.join(wrong)}", advice)
    elif keys:
        yield Check("sealing keys", Verdict.OK, f"{len(keys)} in {directory / 'keys'}; keep a copy apart from backups")
    else:
        advice = "Right if the server is given --seal-key-file; else put back DIR/keys."
        yield Check("sealing keys", Verdict.WARN, "none in the data directory", advice)


def judge_owner(owner: int, here: int) -> Check:
    """Judge whether the data directory is of the user who looks, as it must be of the one who serves."""
    if owner == here:
        return Check("owner", Verdict.OK, "the data directory is yours")
    advice = "Run doctor and serve as that user, or change the owner: who owns the keys may read and replace them."
    return Check("owner", Verdict.WARN, f"the data directory belongs to user {owner}, and this is user {here}", advice)


def judge_disk(free_bytes: int) -> Check:
    """Judge the room on the data directory's disk."""
    finding = f"{free_bytes / (1 << 30):.1f} GiB free"
    advice = "Free some space. Without space, writes get 503."
    if free_bytes < DISK_FAIL_BYTES:
        return Check("disk", Verdict.FAIL, finding, advice)
    return Check("disk", Verdict.WARN if free_bytes < DISK_WARN_BYTES else Verdict.OK, finding, advice)


def judge_descriptors(soft: int, hard: int) -> Check:
    """Judge the limit of open files that a server started from this shell would have: it raises soft to hard."""
    if hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS_MIN:
        many = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard:,} (now {soft:,}; a server raises it)"
        return Check("descriptors", Verdict.OK, many)
    advice = "Raise the hard limit (ulimit -Hn, or LimitNOFILE= of systemd): each connected device needs one."
    return Check("descriptors", Verdict.WARN, f"at most {hard:,}", advice)


def judge_name(host: str, resolves: bool) -> Check:
    """Judge the public host name: whether it is found, and whether clients keep it as it is (reference, 0.9)."""
    if not resolves:
        advice = "Enter it in the DNS, or give serve the name that devices can find: --public-url."
        return Check("public name", Verdict.WARN, f"{host} is not found from here", advice)
    if is_rewritten(host):
        advice = "Use one label, an IPv4 address, or three to five labels, such as mv.example.com."
        return Check("public name", Verdict.WARN, f"twilio-node calls another name than {host}", advice)
    if host == "localhost" or _loopback(host):
        return Check("public name", Verdict.OK, f"{host}: for this machine only; --public-url is for others")
    return Check("public name", Verdict.OK, host)


def is_rewritten(host: str) -> bool:
    """Return whether twilio-node would call another host: it doubles two labels and drops some of more than five."""
    try:
        ip_address(host)
    except ValueError:
        labels = host.rstrip(".").split(".")
        return len(labels) == 2 or len(labels) > 5
    return False


def judge_certificate(days: float) -> Check:
    """Judge how long the server's certificate is still good."""
    finding = f"good for {days:.0f} days"
    advice = "Restart the server: it makes a new one when under a third is left. With --tls-cert renew it yourself."
    if days < CERTIFICATE_FAIL_DAYS:
        return Check("certificate", Verdict.FAIL, finding, advice)
    return Check("certificate", Verdict.WARN if days < CERTIFICATE_WARN_DAYS else Verdict.OK, finding, advice)


def judge_clock(server_s: float, here_s: float) -> Check:
    """Judge the server's clock against this machine's (``Date`` is cut to the second)."""
    apart = abs(server_s - here_s)
    finding = f"the server's is {apart:.0f} s from this machine's"
    advice = "Set both by NTP: certificates, tokens and dates depend on it."
    if apart > CLOCK_FAIL_S:
        return Check("clock", Verdict.FAIL, finding, advice)
    return Check("clock", Verdict.WARN if apart > CLOCK_WARN_S else Verdict.OK, finding, advice)


def judge_health(body: bytes) -> Check:
    """Judge what ``/healthz`` says when it answers 200."""
    try:
        health = msgspec.json.decode(body, type=_Health)
    except msgspec.MsgspecError:
        return Check("health", Verdict.WARN, "the answer of /healthz cannot be read", "A proxy may have replaced it.")
    if health.degraded:
        found = ", ".join(f"{what}: {why}" for what, why in sorted(health.degraded.items()))
        advice = "See Health in docs/reference/rest-api.md. Make room, or mend the disk: reads go on meanwhile."
        return Check("health", Verdict.WARN, f"the server is degraded ({found})", advice)
    return Check("health", Verdict.OK, "the server is ready, and its background jobs come round")


def _answers(http: "Http") -> Iterator[Check]:
    try:
        answer = http.answer("/healthz")
    except (ApiProblem, Unreachable) as problem:
        yield Check("health", Verdict.FAIL, problem.detail, problem.hint)
        return
    yield judge_health(answer.content)
    date = answer.headers.get("Date")
    if date:
        yield judge_clock(parsedate_to_datetime(date).timestamp(), time.time())
    else:
        yield Check("clock", Verdict.WARN, "the server's answer has no Date", "A proxy may have removed it.")
    try:
        http.get("/v1/Devices", {"PageSize": 1})
    except (ApiProblem, Unreachable) as problem:
        yield Check("credentials", Verdict.FAIL, problem.detail, problem.hint)
    else:
        yield Check("credentials", Verdict.OK, f"they open account {http.server.account_sid}")


def _certificate(server: Server, tls: ssl.SSLContext) -> Check:
    parts = urlsplit(server.call_url)
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), _TIMEOUT_S) as plain,
            tls.wrap_socket(plain, server_hostname=server.host) as sealed,
        ):
            certificate = sealed.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        advice = (
            "Check that the CA file belongs to this server; restart it if its certificate ran out; and see what is said"
            " of the clock and, with --data, of the CA."
        )
        if error.verify_code in OTHER_NAME:
            advice = f"Give --tls-cert a certificate with the subjectAltName {server.host}, or --public-url its name."
        return Check(
            "certificate", Verdict.FAIL, f"not trusted for {server.host}: {error.verify_message.rstrip('.')}", advice
        )
    except OSError as error:
        advice = reach_hint(unknown_name=isinstance(error, socket.gaierror))
        return Check("certificate", Verdict.FAIL, f"cannot connect: {error}", advice)
    ends = ssl.cert_time_to_seconds(str(certificate.get("notAfter")))
    return judge_certificate((ends - time.time()) / 86_400)


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def locked(path: Path) -> bool:
    """Return whether a server holds the lock, by trying to share it for a moment."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
