"""The certificate that the server shows: our own CA's, renewed in time, or files that the operator renews.

``refresh`` is called at start and then again and again (``tls_check_s``); it tells whether there is something new to
serve with. Files of an operator are tried by the library that serves before the old ones are let go
(``server/tls_trial``). ``server/listener`` takes what is new into use.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fleetvisor.ground.clock import Clock
from fleetvisor.pki.ca import Authority, moment
from fleetvisor.pki.serving import days_left
from fleetvisor.server.files import DataDirectory, StartFault, demand_valid
from fleetvisor.server.held import Held
from fleetvisor.server.tls_trial import SERVED_KEYS, try_held

WARN_DAYS: Final = 30
_log = structlog.get_logger()


class Certificate(Protocol):
    """What to serve with."""

    @property
    def files(self) -> tuple[Path, Path]:
        """Return the files of the certificate chain and of the key."""
        ...

    def refresh(self) -> bool:
        """Renew what is due; return whether ``files`` hold something new since the last call."""
        ...

    def days_left(self) -> float:
        """Return how many days the certificate is still good."""
        ...


class OwnCertificate:
    """A certificate of the local CA: issued anew when its names change or under a third of its year is left."""

    def __init__(self, directory: DataDirectory, authority: Authority, names: tuple[str, ...], clock: Clock) -> None:
        """Take what issuing needs; issues nothing yet."""
        self._directory = directory
        self._authority = authority
        self._names = names
        self._clock = clock
        self._path: Path | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """Return the one file of both."""
        if self._path is None:
            raise AssertionError("refresh comes first")
        return self._path, self._path

    def refresh(self) -> bool:
        """Issue anew when that is due. Raises ``StartFault`` for a CA that is not valid: the clock was set since."""
        demand_valid(self._authority, self._clock)
        first = self._path is None
        self._path, issued = self._directory.serving(self._authority, self._names, self._clock)
        if issued:
            _log.info("certificate.issued", names=list(self._names), days=round(self.days_left()))
        return first or issued

    def days_left(self) -> float:
        """Return the days until the certificate ends."""
        return days_left(self.files[0].read_bytes(), self._clock.now())


class GivenCertificate:
    """The files of ``--tls-cert`` and ``--tls-key``: read again when they change on the disk.

    What is served already goes on to its end and past it, with warnings; what ran out is never taken into use.
    """

    def __init__(self, cert: Path, key: Path, clock: Clock) -> None:
        """Take the files."""
        self._files = (cert.absolute(), key.absolute())
        self._clock = clock
        self._served: tuple[bytes, bytes] | None = None
        self._held: Held | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        """Return files that hold what was tried, whatever the named ones hold meanwhile."""
        if self._held is None:
            raise AssertionError("refresh comes first")
        cert, key = self._held.paths
        return cert, key

    def refresh(self) -> bool:
        """Read the files. Raises ``StartFault`` for files that cannot be served with."""
        cert, key = self._files
        found = (_read("--tls-cert", cert), _read("--tls-key", key))
        if found == self._served:
            self._warn()
            return False
        self._check(*found)
        held = Held(*found)
        refused = try_held(held)
        if refused is not None:
            held.close()
            raise StartFault(
                f"--tls-cert {cert} and --tls-key {key} cannot be served with: {refused}. Served are {SERVED_KEYS}, in"
                " PEM files that begin with text in ASCII (without a byte order mark)."
            )
        if self._held is not None:
            self._held.close()
        self._served, self._held = found, held
        self._warn()
        return True

    def _check(self, cert_pem: bytes, key_pem: bytes) -> None:
        """Say in words what OpenSSL would say in codes. Raises ``StartFault``."""
        cert, key = self._files
        try:
            certificate = x509.load_pem_x509_certificates(cert_pem)[0]
            held = certificate.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise StartFault(
                f"--tls-cert {cert} holds no certificate: give a chain in PEM, the server's first."
            ) from error
        if b"ENCRYPTED" in key_pem:
            raise StartFault(f"--tls-key {key} is encrypted: give a key without a password.")
        try:
            private = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StartFault(f"--tls-key {key} holds no private key: give the certificate's key in PEM.") from error
        if private.public_key() != held:
            raise StartFault(
                f"--tls-key {key} is not the key of the first certificate in --tls-cert {cert}: give its own."
            )
        now = moment(self._clock.now())
        if now > certificate.not_valid_after_utc:
            ended = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
            raise StartFault(f"--tls-cert {cert} ran out on {ended}: renew it, since clients refuse it.")
        if now < certificate.not_valid_before_utc:
            begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise StartFault(f"--tls-cert {cert} begins only on {begins}: set this machine's clock, or give another.")

    def days_left(self) -> float:
        """Return the days until the certificate ends."""
        if self._served is None:
            raise AssertionError("refresh comes first")
        return days_left(self._served[0], self._clock.now())

    def _warn(self) -> None:
        left = self.days_left()
        if left < WARN_DAYS:
            _log.warning("certificate.ends", days=round(left, 1), file=str(self._files[0]))


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartFault(f"{option} {path} cannot be read: {error.strerror}.") from error


def name_warnings(path: Path | None, host: str) -> list[str]:
    """Return a warning when a certificate of the operator's does not carry the public name; RFC 9525."""
    if path is None:
        return []
    certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        held = x509.SubjectAlternativeName([])
    try:
        found = ip_address(host) in held.get_values_for_type(x509.IPAddress)
    except ValueError:
        name = host.rstrip(".").lower()
        names = {text.rstrip(".").lower() for text in held.get_values_for_type(x509.DNSName)}
        found = name in names or f"*.{name.partition('.')[2]}" in names
    if found:
        return []
    return [f"--tls-cert {path} does not carry the name {host}: clients refuse it. Renew it with that subjectAltName."]
