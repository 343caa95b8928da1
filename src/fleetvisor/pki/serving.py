"""The server's certificate, issued by the local CA: one year, anew when names changed or under a third is left.

Deliberately no files and no clock: who calls stores what is given, and says what time it is. Spec: RFC 5280 and
RFC 9525 (names stand in the subjectAltName; the common name is for people).
"""

import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetvisor.ground.clock import Millis
from fleetvisor.pki.ca import BACKDATE, Authority, moment, render_key

SERVING_DAYS: Final = 365
_COMMON_NAME_MAX: Final = 64


class Serving(NamedTuple):
    """A certificate with its key, both PEM."""

    pem: bytes
    key_pem: bytes


def issue(authority: Authority, names: Sequence[str], now: Millis) -> Serving:
    """Issue a certificate for host names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = moment(now) - BACKDATE
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_COMMON_NAME_MAX])])
    issuer = authority.certificate
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=SERVING_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Serving(certificate.public_bytes(serialization.Encoding.PEM), render_key(key))


def must_renew(serving: Serving, authority: Authority, names: Sequence[str], now: Millis) -> bool:
    """Return whether a certificate must be issued anew.

    It must when it cannot be read, is for another key, of another CA, not for exactly these names, begins only later
    (the clock was wrong when it was issued), or has under a third of its life left.
    """
    try:
        certificate = x509.load_pem_x509_certificate(serving.pem)
        key = serialization.load_pem_private_key(serving.key_pem, password=None)
        certificate.verify_directly_issued_by(authority.certificate)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        public_key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion, x509.ExtensionNotFound):
        return True  # whatever is wrong with it, a new one is the cure
    if public_key != key.public_key() or set(held) != {_general(name) for name in names}:
        return True
    if certificate.not_valid_before_utc > moment(now):
        return True
    left = certificate.not_valid_after_utc - moment(now)
    return left < (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 3


def is_as_issued(pem: bytes) -> bool:
    """Return whether a file of certificate and key has the form in which ``issue`` makes them, to the byte.

    The library that serves takes fewer forms and fewer keys than the one that reads here: a file that somebody changed
    is not its to judge at a start.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    return pem == certificate.public_bytes(serialization.Encoding.PEM) + render_key(key)


def days_left(pem: bytes, now: Millis) -> float:
    """Return how many days a certificate is still valid."""
    return (x509.load_pem_x509_certificate(pem).not_valid_after_utc - moment(now)) / timedelta(days=1)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())
