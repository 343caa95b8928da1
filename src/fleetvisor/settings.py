"""The server's settings: from flags, then ``FLEETVISOR_…`` in the environment, then defaults.

Read once, by ``server/`` and ``cli/`` only; everybody else gets ``ground/limits``. Deliberately no file format.
Limits are set as ``FLEETVISOR_LIMIT_<NAME>``.
"""

import os
from dataclasses import fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleetvisor.ground.limits import Limits

_LIMIT_PREFIX: Final = "FLEETVISOR_LIMIT_"


class Settings(BaseSettings):
    """What ``fleetvisor serve`` needs to know."""

    model_config = SettingsConfigDict(env_prefix="FLEETVISOR_SERVE_", extra="forbid", frozen=True)

    data: Path
    host: str = "127.0.0.1"
    port: int = 8443
    public_url: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    database: str | None = None
    seal_key_file: tuple[Path, ...] = ()
    blobs: Path | None = None
    metrics_port: int | None = None
    log_level: str = "info"

    @field_validator("public_url")
    @classmethod
    def check_public_url(cls, text: str | None) -> str | None:
        """Demand ``https://host[:port]`` without path, query or user; drop a final slash."""
        if text is None:
            return None
        parts = urlsplit(text)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("the public URL must begin with https:// and name a host")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("the public URL must not have a path: clients add /v1 and more to it")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the public URL must not carry credentials")
        _ = parts.port  # raises ValueError for a port that is none
        return text.rstrip("/")

    @field_validator("port", "metrics_port")
    @classmethod
    def check_port(cls, port: int | None) -> int | None:
        """Demand a port number; 0 lets the system choose."""
        if port is not None and not 0 <= port <= 65535:
            raise ValueError("a port is a number from 0 to 65535")
        return port


def limits_from_environment() -> Limits:
    """Give the limits with what the environment changes. Raises ``ValueError`` for an unknown name or no number."""
    names = {field.name for field in fields(Limits)}
    changed: dict[str, int] = {}
    for variable, text in os.environ.items():
        if not variable.startswith(_LIMIT_PREFIX):
            continue
        name = variable.removeprefix(_LIMIT_PREFIX).lower()
        if name not in names:
            raise ValueError(f"{variable}: there is no limit of this name; docs/reference/limits.md lists them")
        if not text.isdigit():
            raise ValueError(f"{variable}: must be a whole number, not below 0")
        changed[name] = int(text)
    return Limits(**changed)
