"""How credentials are judged: always by one comparison of hashes, whether the name exists or not."""

from typing import Final

from fleetvisor.features.accounts.model import ROLES, Caller, Role
from fleetvisor.ground.clock import Millis, iso
from fleetvisor.ground.errors import AccessDenied, Invalid
from fleetvisor.ground.names import has_control
from fleetvisor.pki.identity import same, token_hash

FRIENDLY_NAME_CHARS_MAX: Final = 64
_NOBODY: Final = bytes(32)


def proves(password: str, expected: bytes | None) -> bool:
    """Return whether ``password`` is the one whose SHA-256 is ``expected``; ``None`` costs the same and is false."""
    matches = same(token_hash(password), expected if expected is not None else _NOBODY)
    return matches and expected is not None


def check_friendly_name(text: str) -> str:
    """Return ``text`` when it may name an API key (empty is fine). Raises ``Invalid``."""
    if len(text) > FRIENDLY_NAME_CHARS_MAX:
        raise Invalid(f"FriendlyName has {len(text)} characters; {FRIENDLY_NAME_CHARS_MAX} are the most.")
    if has_control(text):
        raise Invalid("FriendlyName must not contain control characters or lone surrogates.")
    return text


def check_role(text: str) -> Role:
    """Return ``text`` when it names a role. Raises ``Invalid``."""
    for role in ROLES:
        if text == role:
            return role
    raise Invalid(f"Role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}.")


def check_child(maker: Caller, role: Role, expires: Millis | None, *, bounded: bool) -> Millis | None:
    """Return when a key ends that ``maker`` makes with ``role``, to end at ``expires`` (``None``: never).

    A key that another key makes has no higher role and ends no later. ``bounded``: an end, or no end, was asked for.
    Raises ``AccessDenied`` for a higher role, ``Invalid`` for a later end.
    """
    if not maker.may(role):
        raise AccessDenied(f"A key of the role {maker.role} cannot make a key of the role {role}.")
    if maker.date_expires is None:
        return expires
    if not bounded:
        return maker.date_expires
    if expires is None or expires > maker.date_expires:
        raise Invalid(
            f"Ttl: the key that makes this one ends at {iso(maker.date_expires)}, and this one cannot end later."
            " Send a shorter Ttl, or none."
        )
    return expires


def auth_token_context(account_sid: str) -> bytes:
    """Return what a sealed Auth Token is bound to."""
    return f"auth-token\0{account_sid}".encode()
