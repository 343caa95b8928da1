"""The server's settings: from flags, then ``FLEETVISOR_SERVE_…`` in the environment, then defaults.

Read once, by ``server/`` and ``cli/`` only; everybody else gets ``ground/limits``, each of which is a setting too:
``FLEETVISOR_LIMIT_<NAME>``. Deliberately no file format, and it opens no file. Spec: ``docs/reference/settings.md``
is generated from the descriptions here, ``docs/reference/limits.md`` from the limits.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleetvisor.ground.limits import Limits

_PREFIX: Final = "FLEETVISOR_SERVE_"
_LIMIT_PREFIX: Final = "FLEETVISOR_LIMIT_"
_DIGITS_MAX: Final = 15
_AUDIENCE_CHARS_MAX: Final = 256
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\.?\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?"
)
_HOST_AND_PORT: Final = re.compile(r"([^:\[\]]*|\[[^\[\]]*\])(:(?P<port>[0-9]{1,5}))?")
_PORT_MAX: Final = 65_535
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  (to know it, not to bind it)


class Settings(BaseSettings):
    """What ``fleetvisor serve`` needs to know."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    data: Path = Field(
        description="the data directory: created at the first start; only one server at a time can use it"
    )
    host: str = Field(
        "127.0.0.1",
        description="the address or host name to listen on; 0.0.0.0 is all IPv4 addresses, :: is all addresses",
    )
    port: int = Field(8443, ge=0, le=65535, description="the port to listen on; 0 lets the system choose")
    public_url: str | None = Field(
        None, description="https://host[:port] that devices and people use; the server builds every URL from it"
    )
    tls_cert: Path | None = Field(None, description="a certificate chain (PEM) to use instead of one from the local CA")
    tls_key: Path | None = Field(None, description="the private key (PEM, unencrypted) of tls_cert")
    tls_check_s: int = Field(3600, ge=1, description="seconds between checks of the certificate and its files")
    new_ca: bool = Field(
        False,
        description="replace a CA that is not valid now; then install the new ca.pem on all devices",
    )
    database: str | None = Field(None, description="postgresql://…, instead of SQLite in the data directory")
    seal_key_file: tuple[Path, ...] = Field(
        (),
        description="files of 32 random bytes that seal secrets at rest; the first file seals, and all files can open",
    )
    blobs: Path | None = Field(
        None, description="the directory of firmware bytes; with --database, all nodes must share it"
    )
    blobs_lost: bool = Field(
        False,
        description="start even if firmware bytes are lost: their Apps are damaged until you upload them again",
    )
    trusted_proxy: tuple[str, ...] = Field(
        (),
        description="the address or network (10.0.0.0/8) of a proxy that the server trusts to state clients' addresses;"
        " may be repeated",
    )
    audiences: tuple[str, ...] = Field(
        (),
        description="the URLs for which devices' signed tokens are valid, instead of the public URL. List an old"
        " URL here too, so that a changed URL locks out no device; may be repeated",
    )
    hsts_s: int = Field(
        0,
        ge=0,
        description="seconds for which browsers must use HTTPS for the public name (Strict-Transport-Security);"
        " 0 omits the header",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="a port on 127.0.0.1 for metrics in Prometheus' format; without it there are no metrics",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum level of log messages to write"
    )

    @field_validator("data", "tls_cert", "tls_key", "blobs", mode="before")
    @classmethod
    def check_paths(cls, value: object) -> object:
        """Refuse an empty path: it would be the current directory."""
        if value == "":
            raise ValueError("the path is empty; for the current directory write .")
        return value

    @field_validator("seal_key_file")
    @classmethod
    def check_seal_key_files(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        """Refuse an empty path, which would be the current directory, and so no file."""
        if Path() in paths:
            raise ValueError("the path is empty; name the file of a key")
        return paths

    @field_validator("public_url")
    @classmethod
    def check_public_url(cls, text: str | None) -> str | None:
        """Demand ``https://host[:port]`` without path, query or user; drop a final slash."""
        if text is None:
            return None
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018  (reading it raises ValueError for one that is no port)
        except ValueError as error:
            raise ValueError(f"the public URL is not a URL ({error})") from None
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("the public URL must begin with https:// and name a host")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or text.endswith(("?", "#")):
            raise ValueError("the public URL must not have a path: clients add /v1 and more to it")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the public URL must not carry credentials")
        if parts.port == 0:
            raise ValueError("the public URL's port must not be 0")
        host = _check_host(parts.hostname)
        return url_of(host, parts.port)

    @field_validator("database")
    @classmethod
    def check_database(cls, text: str | None) -> str | None:
        """Demand a PostgreSQL URL that can be taken apart; what is said of it never repeats it."""
        if text is None:
            return None
        if not text.startswith(("postgresql://", "postgres://")):
            raise ValueError("the database must be a postgresql:// URL")
        try:
            hosts = urlsplit(text).netloc.rpartition("@")[2]
        except ValueError:
            hosts = ":"
        found = [_HOST_AND_PORT.fullmatch(host) for host in hosts.split(",")]
        if not all(host is not None and int(host["port"] or 0) <= _PORT_MAX for host in found):
            raise ValueError("the database must be postgresql://user:password@host:port/name; write / as %2F, @ as %40")
        return text

    @field_validator("trusted_proxy")
    @classmethod
    def check_proxies(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Demand addresses and networks."""
        for text in texts:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(
                    f"a trusted proxy must be an address or a network such as 10.0.0.0/8: {error}"
                ) from None
        return texts

    @field_validator("audiences")
    @classmethod
    def check_audiences(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Demand text that a token can name."""
        for text in texts:
            if not 0 < len(text) <= _AUDIENCE_CHARS_MAX or not text.isprintable():
                raise ValueError(f"an audience must have 1 to {_AUDIENCE_CHARS_MAX} printable characters")
        return texts

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks of trusted proxies."""
        return tuple(ip_network(text) for text in self.trusted_proxy)

    @field_validator("host")
    @classmethod
    def check_host(cls, text: str) -> str:
        """Demand an address or a host name; brackets around an IPv6 address go."""
        return _check_host(text.removeprefix("[").removesuffix("]"))

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Demand what belongs together."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together")
        if self.database is None:
            return self
        if not self.seal_key_file or self.blobs is None:
            raise ValueError("with --database, --seal-key-file and --blobs are required: all nodes share them")
        return self

    @property
    def listens_on_all(self) -> bool:
        """Whether the server listens on every address of the machine."""
        return self.host in _ANY

    @property
    def public_host(self) -> str:
        """Return the host of the public URL, without brackets."""
        return urlsplit(self.base_url(0)).hostname or self.host

    def base_url(self, port: int) -> str:
        """Return the URL that the world calls, for a server listening on ``port``."""
        return self.public_url or url_of("localhost" if self.listens_on_all else self.host, port)

    def local_url(self, port: int) -> str:
        """Return the URL by which programs on this machine call."""
        return url_of("127.0.0.1" if self.listens_on_all else self.host, port)

    def certificate_names(self) -> tuple[str, ...]:
        """Return the names that the server's certificate must have, each once: the public one first."""
        own = () if self.listens_on_all else (self.host,)
        names = (self.public_host, *own, "localhost", "127.0.0.1")
        return tuple(dict.fromkeys(name.rstrip(".").lower() for name in names))

    def warnings(self, port: int) -> list[str]:
        """Return what an operator should know before clients meet it, each a sentence with what to do."""
        found: list[str] = []
        if self.listens_on_all and self.public_url is None:
            url = url_of("HOST", port)
            found.append(
                f"The server listens on all addresses, but its URLs and its certificate say localhost. Give"
                f" --public-url {url}, with the name or address by which devices and people call it."
            )
        host = self.public_host
        called = host_that_twilio_node_calls(host)
        if called != host:
            found.append(
                f"twilio-node would call {called} in place of {host}. For its users choose a name of one label,"
                f" of three to five labels, or an IPv4 address, for example mv.{host}."
                if host.count(".") == 1
                else f"twilio-node would call {called} in place of {host}. For its users choose a name of one label,"
                " of three to five labels, or an IPv4 address."
            )
        return found


def _check_host(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise ValueError(f"{host!r} is no host name and no address (write other scripts as xn--…)") from None
        return host


def url_of(host: str, port: int | None) -> str:
    """Return ``https://host[:port]``, with brackets around an IPv6 address."""
    url = f"https://[{host}]" if ":" in host else f"https://{host}"
    return url if port is None else f"{url}:{port}"


def host_that_twilio_node_calls(host: str) -> str:
    """Return the host that twilio-node (seen in 5.7.1) calls when it is told to call ``host``.

    It reads every name as ``product[.edge].region.domain.tld``: what stands before the first occurrence of the last
    two labels must be at most three labels, and of two labels in all it makes four.
    """
    domain = ".".join(host.split(".")[-2:])
    labels = host.partition("." + domain)[0].split(".")
    return host if len(labels) == 1 else ".".join([*labels[:3], domain])


def variable_of(name: str) -> str:
    """Return the variable of the environment that a setting may come from."""
    return _PREFIX + name.upper()


def check_variables(environ: Mapping[str, str] = os.environ) -> None:
    """Raise ``ValueError`` for a variable that looks like a setting and is none: a slip, not to be passed over."""
    for variable in environ:
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper().startswith(_PREFIX) and name.lower() not in Settings.model_fields:
            raise ValueError(f"{variable}: there is no setting of this name; docs/reference/settings.md lists them")


def limits_from(environ: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits with what the environment changes. Raises ``ValueError`` for an unknown name or no number."""
    names = {field.name for field in fields(Limits)}
    changed: dict[str, int] = {}
    for variable, text in environ.items():
        if not variable.startswith(_LIMIT_PREFIX):
            continue
        name = variable.removeprefix(_LIMIT_PREFIX).lower()
        if name not in names:
            raise ValueError(f"{variable}: there is no limit of this name; docs/reference/limits.md lists them")
        if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
            raise ValueError(f"{variable}: must be a whole number, not below 0")
        changed[name] = int(text)
    return Limits(**changed)
