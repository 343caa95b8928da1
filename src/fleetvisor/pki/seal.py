"""Secrets at rest: AES-256-GCM under a key that is kept apart from the database.

A sealed value is ``1`` | 8 bytes of key id | 12 bytes of nonce | ciphertext and tag. The key id is the beginning of
the key's SHA-256, so a value says which key it needs. Version, key id and the context (which row and column) are
authenticated: a sealed value that is moved to another row does not open. Deliberately no files of its own making:
``server/files`` makes them. NOTE: this layout is on disk; a new one gets another first byte.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleetvisor.ground.clock import Entropy

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12


class SealFault(Exception):
    """A sealed value cannot be opened, or a key file is not one."""


class Seal:
    """Seals with the first of its keys, opens with any."""

    def __init__(self, keys: Sequence[bytes], entropy: Entropy) -> None:
        """Take the keys (32 bytes each; the first seals). Raises ``SealFault``."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SealFault(f"A sealing key has exactly {KEY_BYTES} bytes.")
        self._entropy = entropy
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.active_id = key_id(keys[0])

    @classmethod
    def load(cls, files: Sequence[Path], entropy: Entropy) -> "Seal":
        """Read key files, the one that seals first. Raises ``SealFault`` naming the file that is not one."""
        keys: list[bytes] = []
        for file in files:
            try:
                key = file.read_bytes()
            except OSError as error:
                raise SealFault(f"The sealing key {file} cannot be read: {error.strerror}.") from error
            if len(key) != KEY_BYTES:
                raise SealFault(f"The sealing key {file} has {len(key)} bytes; it must have {KEY_BYTES}.")
            keys.append(key)
        return cls(keys, entropy)

    @property
    def ids(self) -> frozenset[str]:
        """Return the ids of the keys at hand, as hex."""
        return frozenset(self._ciphers)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Seal ``plain`` for the place that ``context`` names."""
        nonce = self._entropy.token(_NONCE_BYTES)
        header = _VERSION + bytes.fromhex(self.active_id)
        return header + nonce + self._ciphers[self.active_id].encrypt(nonce, plain, header + context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Open what was sealed for ``context``. Raises ``SealFault``."""
        cipher = self._ciphers.get(key_id_of(sealed))
        if cipher is None:
            raise SealFault(f"The sealing key {key_id_of(sealed)} is missing.")
        start = len(_VERSION) + _ID_BYTES
        nonce, boxed = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, boxed, sealed[:start] + context)
        except InvalidTag as error:
            raise SealFault("A sealed value was changed, or moved to another place.") from error


def key_id(key: bytes) -> str:
    """Return the id of a key: the first 8 bytes of its SHA-256, as hex."""
    return sha256(b"fleetvisor seal\0" + key).digest()[:_ID_BYTES].hex()


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that sealed a value. Raises ``SealFault`` for what is no sealed value."""
    if sealed[:1] != _VERSION or len(sealed) < len(_VERSION) + _ID_BYTES + _NONCE_BYTES + 16:
        raise SealFault("This is not a sealed value.")
    return sealed[1 : 1 + _ID_BYTES].hex()
