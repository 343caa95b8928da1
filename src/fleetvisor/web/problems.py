"""The one place where a problem becomes an answer: the five fields of the published error body.

Deliberately the only module that turns exceptions into status codes. Spec: the API reference, section 1.2.
"""

import structlog

from fleetvisor.db.database import DatabaseBusy
from fleetvisor.ground.errors import InternalFault, Problem, Unauthenticated, Unavailable
from fleetvisor.web.answers import JSON_TYPE, Answer, Header, encode
from fleetvisor.web.urls import Urls

_log = structlog.get_logger()


def problem_of(error: Exception) -> Problem:
    """Give the problem that an exception means to the caller; what is not one of ours is logged with its trace."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, DatabaseBusy):
        _log.warning("database.busy", reason=str(error))
        return Unavailable("The database is busy.", retry_after_s=1)
    _log.error("request.failed", exc_info=error)
    return InternalFault()


def answer_of(problem: Problem, urls: Urls, *, challenge: bytes, target: str) -> Answer:
    """Render a problem. ``challenge`` is the WWW-Authenticate value of a 401, ``target`` the path that was asked."""
    message = problem.message
    if problem.status == 404:
        message = f"The requested resource {target} was not found"
    body = {
        "code": problem.code,
        "detail": problem.detail,
        "message": message,
        "more_info": urls.error(problem.code),
        "status": problem.status,
        "hint": problem.hint,
    }
    headers: list[Header] = [JSON_TYPE]
    if isinstance(problem, Unauthenticated):
        headers.append((b"www-authenticate", challenge))
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    return Answer(problem.status, encode(body), headers)
