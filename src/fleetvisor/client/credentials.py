"""Where the server is and how to prove oneself to it: from a data directory or from the environment.

A data directory's ``credentials.json`` names two addresses: ``base_url`` is what the world calls, and what the
server's certificate is for; ``local_url`` is where the server listens on this machine, and what we call.
Deliberately opens no connection and knows no command line. Spec: "Keys, certificates, files" in
``docs/explanation/keys-and-certificates.md``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    import ssl

CREDENTIALS_FILE: Final = "credentials.json"
ENVIRONMENT: Final = ("FLEETVISOR_URL", "FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN", "FLEETVISOR_CA_FILE")


class NoServer(Exception):
    """Nothing, or something unusable, says where the server is. ``hint`` tells what to do."""

    def __init__(self, detail: str, hint: str, *, named: bool = True) -> None:
        """Keep ``detail`` and ``hint``, each a sentence for people; ``named``: the caller did name a server."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.named = named


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server and one account on it.

    ``call_url`` is where requests go; its certificate is checked for the host of ``base_url``. ``ca_file`` is
    ``None`` when the system's own store of authorities judges the certificate. ``data`` is the directory that
    said all this, if one did.
    """

    base_url: str
    account_sid: str
    auth_token: str = field(repr=False)
    ca_file: Path | None = None
    local_url: str | None = None
    data: Path | None = None

    @property
    def call_url(self) -> str:
        """Return the address to call: the local one where it is known."""
        return self.local_url or self.base_url

    @property
    def host(self) -> str:
        """Return the host name, or address without brackets, that the certificate must be for."""
        return urlsplit(self.base_url).hostname or ""

    def tls(self) -> "ssl.SSLContext":
        """Make a context that trusts ``ca_file``, or the system's store. Raises ``NoServer``."""
        import ssl

        if self.ca_file is None:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise NoServer(
                f"The CA file {self.ca_file} cannot be used: {error}.",
                "Give the ca.pem of the server's data directory, or what it serves at /ca.pem.",
            ) from error


class _CredentialsFile(msgspec.Struct):
    """``credentials.json``, as the server writes it at every start."""

    base_url: str
    account_sid: str
    auth_token: str
    ca_file: str | None = None
    local_url: str | None = None


def from_directory(directory: Path) -> Server:
    """Read ``directory/credentials.json``. Raises ``NoServer`` when it is missing or unusable."""
    path = directory / CREDENTIALS_FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise NoServer(
            f"There is no {path}.", f"Start the server first: fleetvisor serve --data {directory}"
        ) from error
    except OSError as error:
        raise NoServer(
            f"{path} cannot be read: {error.strerror}.",
            "Run the command as the user who runs the server, or set " + ", ".join(ENVIRONMENT) + ".",
        ) from error
    try:
        content = msgspec.json.decode(raw, type=_CredentialsFile)
    except msgspec.MsgspecError as error:
        raise NoServer(f"{path} is damaged: {error}.", "Start the server again: it writes the file anew.") from error
    return Server(
        base_url=checked_url(content.base_url, str(path)),
        account_sid=content.account_sid,
        auth_token=content.auth_token,
        ca_file=None if content.ca_file is None else Path(content.ca_file),
        local_url=None if content.local_url is None else checked_url(content.local_url, str(path)),
        data=directory,
    )


def from_environment(environ: Mapping[str, str] = os.environ) -> Server | None:
    """Read the ``FLEETVISOR_*`` variables; ``None`` when ``FLEETVISOR_URL`` is unset. Raises ``NoServer``."""
    url = environ.get("FLEETVISOR_URL", "")
    if not url:
        return None
    missing = [name for name in ENVIRONMENT[1:3] if not environ.get(name)]
    if missing:
        raise NoServer(
            f"FLEETVISOR_URL is set, but {' and '.join(missing)} is not.",
            'Set all of them, for example with: eval "$(fleetvisor env --data DIR)"',
        )
    ca_file = environ.get("FLEETVISOR_CA_FILE")
    return Server(
        base_url=checked_url(url, "FLEETVISOR_URL"),
        account_sid=environ["FLEETVISOR_ACCOUNT_SID"],
        auth_token=environ["FLEETVISOR_AUTH_TOKEN"],
        ca_file=Path(ca_file) if ca_file else None,
    )


def find(data: Path | None, environ: Mapping[str, str] = os.environ) -> Server:
    """Return the server that ``data`` names, else the one of the environment. Raises ``NoServer`` when neither does."""
    if data is not None:
        return from_directory(data)
    server = from_environment(environ)
    if server is None:
        raise NoServer(
            "No server is named.",
            "Give --data DIR (the data directory of a server on this machine), or set " + ", ".join(ENVIRONMENT) + ".",
            named=False,
        )
    return server


def checked_url(url: str, source: str) -> str:
    """Return ``url`` when it is ``https://host[:port]`` and nothing more; raise ``NoServer`` otherwise."""
    hint = "It must be https://host or https://host:port, without a path and without a final slash."
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it raises ValueError for one that is no port)
        (parts.hostname or "").encode("idna")  # UnicodeError, a ValueError, for one that is no host name
    except ValueError as error:
        raise NoServer(f"{source} holds {url!r}, which is not a URL.", hint) from error
    extra = not url.isprintable() or parts.path or parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme != "https" or not parts.hostname or extra:
        raise NoServer(f"{source} holds {url!r}, which is not the address of a server.", hint)
    return url
