"""Logs: one JSON object a line on standard error, with the request's id; secrets dropped by name.

Deliberately no files and no rotation: the supervisor's.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

SECRETS: Final = frozenset(
    {"auth_token", "authorization", "device_token", "password", "secret", "token", "value", "sealed", "private_key"}
)


def drop_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must never be printed, wherever somebody logs it by mistake."""
    for name in SECRETS.intersection(event):
        event[name] = "[dropped]"
    return event


def configure(level: str = "info") -> None:
    """Send structlog's and the libraries' lines to standard error, from ``level`` up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            drop_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(message)s", force=True)
