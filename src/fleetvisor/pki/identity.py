"""Tokens that we make: random, shown once, kept as SHA-256, compared in constant time.

Deliberately no password hashing: nothing here is a human's password; each has at least 128 random bits.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

from fleetvisor.ground.clock import Entropy


def new_token(entropy: Entropy, prefix: str = "") -> str:
    """Make a token: ``prefix`` and 256 random bits as 43 URL-safe characters."""
    return prefix + urlsafe_b64encode(entropy.token(32)).rstrip(b"=").decode()


def new_hex_token(entropy: Entropy) -> str:
    """Make a token of 128 random bits as 32 lower-case hex digits, the form of an Auth Token."""
    return entropy.token(16).hex()


def token_hash(token: str) -> bytes:
    """Return what is kept of a token: its SHA-256, 32 bytes."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def same(left: bytes, right: bytes) -> bool:
    """Compare two hashes in constant time."""
    return hmac.compare_digest(left, right)
