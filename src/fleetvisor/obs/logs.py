"""Logs: one JSON object a line on standard error, with the request's id; secrets are dropped by name.

The libraries' own lines take the same form. A line that cannot be rendered or written never raises into the work that
it tells of. Deliberately no files and no rotation: the supervisor's work.
"""

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

from fleetvisor.obs.sink import Sink

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


class _Chain:
    """Processors as one that never raises: a line that cannot be rendered is told by its name alone."""

    def __init__(self, processors: list[structlog.typing.Processor]) -> None:
        self._processors = processors

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        """Render one line."""
        name = event.get("event")
        try:
            rendered: Any = event
            for process in self._processors:
                rendered = process(logger, method, rendered)
            return str(rendered)
        except Exception as error:  # noqa: BLE001  (a value's own code may raise anything)
            line = {"event": name if isinstance(name, str) else "log.unreadable", "level": method}
            return json.dumps({**line, "unreadable": type(error).__name__})


def configure(level: str = "info") -> Sink:
    """Send structlog's and the libraries' lines to standard error, from ``level`` up; return where they go."""
    number = logging.getLevelNamesMapping()[level.upper()]
    sink = Sink(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        drop_secrets,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[_Chain([*shared, structlog.processors.JSONRenderer()])],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", sink)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast("TextIO", sink))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.raiseExceptions = False  # else a line that cannot be rendered prints a traceback, which may fail in turn
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    return sink
