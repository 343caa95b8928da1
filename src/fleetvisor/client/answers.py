"""What comes back from a server: JSON of a known type, a problem with its number, or nothing at all.

Deliberately no transport, so that what only handles these need not import one.
Spec: the Microvisor API reference, section 1.2.
"""

from typing import Final, TypeVar

import msgspec

#: OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
OTHER_NAME: Final = (62, 64)
T = TypeVar("T")


class ApiProblem(Exception):
    """The server answered with a problem: its number, its HTTP status, what went wrong and what to do."""

    def __init__(self, code: int, status: int, detail: str, hint: str, retry_after_s: float | None = None) -> None:
        """Keep what the answer said; ``hint`` is ours, chosen by the number."""
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.hint = hint
        self.retry_after_s = retry_after_s


class Unreachable(Exception):
    """No answer of the API came. ``hint`` tells what to do; ``lasting`` is true where trying again cannot help."""

    def __init__(self, detail: str, hint: str, *, lasting: bool = False) -> None:
        """Keep ``detail`` and ``hint``, each a sentence for people."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.lasting = lasting


def decode(raw: bytes, kind: type[T]) -> T:
    """Decode JSON of the server as ``kind``. Raises ``Unreachable`` when it is something else."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise Unreachable(
            f"The answer was not understood: {error}.",
            "Check that the address is a Fleetvisor server's, and that its version fits this program's.",
            lasting=True,
        ) from error


def reach_hint(*, unknown_name: bool) -> str:
    """Return what to do about a server that cannot be reached; ``unknown_name``: its name has no address."""
    if unknown_name:
        return "Check the name in FLEETVISOR_URL, and enter it in your DNS or in this machine's hosts file."
    return "Check that the server runs (fleetvisor serve) and listens on this address."


def trust_hint(host: str, verify_code: int) -> str:
    """Return what to do about a certificate that is not trusted for ``host``, by OpenSSL's code of the reason."""
    if verify_code in OTHER_NAME:
        return (
            f"Call the server by a name that its certificate carries, or start it with --public-url https://{host}"
            f" (and with a --tls-cert that carries {host}, if it has one)."
        )
    return "Check that FLEETVISOR_CA_FILE (or --data) belongs to this server."
