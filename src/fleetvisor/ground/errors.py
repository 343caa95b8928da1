"""One family of problems: everything that can go wrong for a caller, with its published number.

The docstring of a class is its default message; ``code`` and ``status`` are what the API answers; ``hint``
says what to do. The edges (``web/problems``) turn them into the five-field body in one place. Deliberately
knows nothing of HTTP beyond the status number. Spec: the Microvisor API reference, section 1.2.
"""

from typing import ClassVar


class Problem(Exception):
    """The request could not be carried out."""

    code: ClassVar[int] = 20500
    status: ClassVar[int] = 500
    hint: ClassVar[str] = "Search the server's log for this request id."

    def __init__(self, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        """Keep ``detail`` (a sentence for people) and after how many seconds to try again, if that helps."""
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)

    @property
    def message(self) -> str:
        """Return the default message of this kind of problem."""
        return (type(self).__doc__ or "").strip()


class Invalid(Problem):
    """A parameter is missing or invalid."""

    code = 20001
    status = 400
    hint = "Correct the parameter that the detail names, and send the request again."


class InvalidPageToken(Problem):
    """The PageToken is invalid."""

    code = 21481
    status = 400
    hint = "Start again from the first page, and follow next_page_url unchanged."


class Unauthenticated(Problem):
    """Authentication Error - invalid credentials."""

    code = 20003
    status = 401
    hint = "Use HTTP Basic with the Account SID and Auth Token, or an API key SID and its secret."

    def __init__(self, detail: str | None = None, *, identity: str | None = None) -> None:
        """Keep ``detail``, and whom the request claimed to be, where it names somebody."""
        super().__init__(detail)
        self.identity = identity


class ClockSkew(Unauthenticated):
    """Authentication Error - The device's clock and the server's differ too much."""

    code = 20013
    hint = "Set the device's clock from the Date header of this answer, and sign a new token."


class AccessDenied(Problem):
    """Access denied."""

    code = 20006
    status = 403
    hint = "Use a credential that allows this: an Auth Token, or an API key with the role that the detail names."


class NotFound(Problem):
    """The requested resource was not found."""

    code = 20404
    status = 404
    hint = "Check the path, the SID or unique name, and which account the credentials belong to."


class MethodNotAllowed(Problem):
    """The method is not allowed for this resource."""

    code = 20004
    status = 405
    hint = "Use one of the methods in the Allow header."

    def __init__(self, detail: str | None = None, *, allowed: tuple[str, ...] = ()) -> None:
        """Keep the methods that the path has."""
        super().__init__(detail)
        self.allowed = allowed


class Conflict(Problem):
    """The request conflicts with the current state of a resource."""

    code = 20409
    status = 409
    hint = "Check the resource that the detail names, resolve the conflict, and retry."


class Gone(Problem):
    """The update that the request names is closed."""

    code = 20410
    status = 410
    hint = "Fetch the current state, and continue from there."


class TooLarge(Problem):
    """The request is larger than the server accepts."""

    code = 20413
    status = 413
    hint = "See the limits page for the bound that the detail names."


class UnsupportedMediaType(Problem):
    """The Content-Type of the request is not supported."""

    code = 20415
    status = 415
    hint = "Send application/x-www-form-urlencoded, or multipart/form-data for an upload."


class RangeNotSatisfiable(Problem):
    """The requested range lies outside the content."""

    code = 20416
    status = 416
    hint = "Request bytes below the size in Content-Range."


class TooManyRequests(Problem):
    """Too many requests."""

    code = 20429
    status = 429
    hint = "Wait for the number of seconds in Retry-After, then retry."


class Unavailable(Problem):
    """The server cannot do this right now."""

    code = 20503
    status = 503
    hint = "Wait for the number of seconds in Retry-After, then retry."


class InternalFault(Problem):
    """The server has an internal error."""

    code = 20500
    status = 500
    hint = "Report the request id to the operator of this server; the server's log has the cause."
