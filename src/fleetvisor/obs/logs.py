"""Logs: one JSON object a line on standard error, with the request's id; secrets are dropped by name.

The libraries' own lines take the same form. Deliberately no files and no rotation: the supervisor's work.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, cast

import structlog

SECRETS: Final = ("token", "secret", "password", "authorization", "private", "sealed", "credential")
_EXACT: Final = frozenset({"value", "body", "key_pem"})
DROPPED: Final = "[dropped]"
_DEPTH_MAX: Final = 4


def drop_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must never be printed, wherever somebody logs it by mistake; looks into nested mappings."""
    for name, value in event.items():
        event[name] = _without(name, value, _DEPTH_MAX)
    return event


def _without(name: str, value: object, depth: int) -> object:
    known = name.lower()
    if known in _EXACT or any(word in known for word in SECRETS):
        return DROPPED
    if isinstance(value, Mapping) and depth:
        pairs = cast("Mapping[object, object]", value).items()
        return {str(key): _without(str(key), inner, depth - 1) for key, inner in pairs}
    return cast("object", value)


def configure(level: str = "info") -> None:
    """Send structlog's and the libraries' lines to standard error, from ``level`` up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        drop_secrets,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
