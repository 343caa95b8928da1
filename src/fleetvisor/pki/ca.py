"""The local certificate authority: made at first start, for operators who have no certificate of their own.

20 years, ``pathlen:0``, and no name constraints: Mbed TLS refuses to parse them, and a later public name must stay
possible. Deliberately no files: who calls stores it. Spec: RFC 5280, as Python's ``VERIFY_X509_STRICT`` reads it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleetvisor.ground.clock import Millis

CA_DAYS: Final = 20 * 365
BACKDATE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA: its certificate (PEM) and its private key."""

    pem: bytes
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        """Return the certificate, parsed."""
        return x509.load_pem_x509_certificate(self.pem)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the certificate as people compare it: upper-case pairs with colons."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def moment(now: Millis) -> datetime:
    """Return a time as the X.509 library takes it."""
    return datetime.fromtimestamp(now / 1000, UTC).replace(microsecond=0)


def make_authority(now: Millis) -> Authority:
    """Make a CA whose key exists nowhere else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleetvisor local CA")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    start = moment(now) - BACKDATE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), key)


def why_not_valid(certificate: x509.Certificate, now: Millis) -> str | None:
    """Return why a CA is not valid at ``now``, or ``None`` when it is: its dates come from a clock that was wrong."""
    at = moment(now)
    if at < certificate.not_valid_before_utc:
        return f"it begins on {certificate.not_valid_before_utc:%Y-%m-%d}, and the clock says {at:%Y-%m-%d}"
    if at > certificate.not_valid_after_utc:
        return f"it ended on {certificate.not_valid_after_utc:%Y-%m-%d}, and the clock says {at:%Y-%m-%d}"
    return None


def render_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PKCS#8 PEM, unencrypted: who calls seals it or writes it 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_authority(pem: bytes) -> Authority:
    """Read a CA back from its certificate and its key, both PEM, in one text. Raises ``ValueError``.

    The certificate's own signature is checked: with one bit changed, no device that knows the CA would trust it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(certificate)
        held = certificate.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("its certificate is missing or damaged") from error
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("its private key is missing or damaged") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an EC key")  # noqa: TRY004  the file is wrong, not the caller
    if held != key.public_key():
        raise ValueError("the certificate belongs to another key")
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), key)
