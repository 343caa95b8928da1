"""Requests to the REST API: TLS, credentials, problems, pages, uploads and retries.

Deliberately knows no resource: paths and bytes go in and out, ``resources`` gives them types. Only GETs are
tried again (on a lost connection, 429 and 503, honouring Retry-After): a POST may have happened. Nothing is
ever sent to another server than the one named, whatever URLs an answer holds.
Spec: the Microvisor API reference, section 1.
"""

import io
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
import stamina

from fleetvisor import __version__
from fleetvisor.client.answers import ApiProblem, Unreachable, decode, reach_hint, trust_hint
from fleetvisor.client.credentials import Server
from fleetvisor.ground import errors

RETRY_AFTER_S_MAX: Final = 30.0
UPLOAD_TIMEOUT_S: Final = 600.0
_HINTS: Final = {kind.code: kind.hint for kind in errors.Problem.__subclasses__()}
Progress = Callable[[int], None]
Form = Mapping[str, str | Sequence[str]]  # several texts: the parameter is repeated
_PIECE_BYTES: Final = 256 << 10
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class Meta(msgspec.Struct):
    """The part of a page's ``meta`` that walking a list needs."""

    next_page_url: str | None = None


class _ProblemBody(msgspec.Struct):
    """The API's error body; every field may be missing when something else than our server answers."""

    code: int = 0
    detail: str | None = None
    message: str | None = None


class _Counted(io.FileIO):
    """A file that tells how many of its bytes were read, and that lets httpx stream it piece by piece."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        """Open ``path`` for reading."""
        super().__init__(path, "rb")
        self._progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        chunk = super().read(-1 if size is None else size)
        if self._progress is not None:
            self._progress(self.tell())
        return chunk or b""


class Http:
    """A connection to one server, as one account."""

    def __init__(
        self,
        server: Server,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = 30.0,
        attempts: int = 4,
    ) -> None:
        """Prepare to call ``server``; connects with the first request. Raises ``NoServer`` for an unusable CA file."""
        self.server = server
        self._attempts = attempts
        self._extensions = {"sni_hostname": server.host}
        self._client = httpx.Client(
            base_url=server.call_url,
            auth=httpx.BasicAuth(server.account_sid, server.auth_token),
            headers={
                "Host": urlsplit(server.base_url).netloc,
                "Accept": "application/json",
                "User-Agent": f"fleetvisor/{__version__}",
            },
            verify=server.tls(),
            timeout=timeout_s,
            transport=transport,
            # A proxy of the environment cannot lead to the address that a server listens on here.
            trust_env=server.local_url is None,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        """GET ``path``, trying again where that is safe. Raises ``ApiProblem``, ``Unreachable``."""
        return self.answer(path, params).content

    def answer(self, path: str, params: Mapping[str, str | int] | None = None) -> httpx.Response:
        """GET ``path`` as ``get`` does, and return the whole answer, headers included."""
        for attempt in stamina.retry_context(
            on=_worth_another_try,
            attempts=self._attempts,
            timeout=60.0,
            wait_initial=0.1,
            wait_max=2.0,
            wait_jitter=0.3,
        ):
            with attempt:
                return self._send("GET", path, params=params)
        raise AssertionError("stamina lets the last error through")

    def post(self, path: str, form: Form) -> bytes:
        """POST ``form`` to ``path``, once. Raises ``ApiProblem``, ``Unreachable``."""
        return self._send("POST", path, content=urlencode(form, doseq=True).encode(), headers=_FORM).content

    def delete(self, path: str) -> None:
        """DELETE ``path``, once. Raises ``ApiProblem``, ``Unreachable``."""
        self._send("DELETE", path)

    def upload(self, path: str, file: Path, form: Form, progress: Progress | None = None) -> bytes:
        """POST ``form`` and then ``file`` as part ``File``, streamed; ``progress`` hears the bytes read so far."""
        with _Counted(file, progress) as source:
            return self._send(
                "POST",
                path,
                data=form,
                files={"File": (file.name, source, "application/zip")},
                timeout=UPLOAD_TIMEOUT_S,
            ).content

    def send(self, path: str, file: Path, media: str, progress: Progress | None = None) -> bytes:
        """POST ``file`` as it is, streamed; ``progress`` hears the bytes read so far."""
        with _Counted(file, progress) as source:
            headers = {"Content-Type": media, "Content-Length": str(file.stat().st_size)}
            pieces = iter(lambda: source.read(_PIECE_BYTES), b"")
            return self._send("POST", path, content=pieces, headers=headers, timeout=UPLOAD_TIMEOUT_S).content

    def pages(
        self,
        path: str,
        key: str,
        page_size: int,
        wanted: Mapping[str, str] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Iterator[msgspec.Raw]:
        """Walk the list at ``path`` page by page, under a filter; give each item's JSON.

        ``warn`` is told what the server warns of, once.
        """
        body = self.get(path, {"PageSize": page_size, **(wanted or {})})
        while True:
            page = decode(body, dict[str, msgspec.Raw])
            if warn is not None:
                for text in decode(bytes(page.get("warnings", b"[]")), list[str]):
                    warn(text)
                warn = None
            yield from decode(bytes(page.get(key, b"[]")), list[msgspec.Raw])
            following = decode(bytes(page.get("meta", b"{}")), Meta).next_page_url
            if not following:
                return
            # The answer's URL is the public one; only its path and query are followed, on the server we know.
            parts = urlsplit(following)
            body = self.get(f"{parts.path}?{parts.query}")

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401  (httpx checks them)
        try:
            response = self._client.request(method, path, extensions=self._extensions, **parts)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_success:
            return response
        raise _problem(response)

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        where = self.server.call_url
        cause: BaseException | None = error
        named = False
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                reason = cause.verify_message.rstrip(".")
                return Unreachable(
                    f"The certificate of {where} is not trusted for {self.server.host}: {reason}.",
                    trust_hint(self.server.host, cause.verify_code),
                    lasting=True,
                )
            named = named or isinstance(cause, socket.gaierror)
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{where} did not answer in time.", "Check the server's load and its log.")
        return Unreachable(
            f"{where} cannot be reached: {error or type(error).__name__}.", reach_hint(unknown_name=named)
        )


def _problem(response: httpx.Response) -> ApiProblem:
    try:
        body = msgspec.json.decode(response.content, type=_ProblemBody)
    except msgspec.MsgspecError:
        body = _ProblemBody()  # a proxy's own error page, say: its status is all there is to tell
    code = body.code or response.status_code
    detail = body.detail or body.message or f"The server answered {response.status_code} {response.reason_phrase}."
    hint = _HINTS.get(code, "The address may not be a Fleetvisor server's, or a proxy answered in its place.")
    request_id = response.headers.get("Twilio-Request-Id")
    if request_id and response.status_code >= 500:
        hint = f"{hint} It is {request_id}."
    return ApiProblem(code, response.status_code, detail, hint, _retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None  # absent, or a date: our server sends seconds


def _worth_another_try(error: Exception) -> bool | float:
    """Decide for stamina: no, yes with its own backoff, or yes after so many seconds."""
    if isinstance(error, Unreachable):
        return not error.lasting
    if not isinstance(error, ApiProblem) or error.status not in {429, 503}:
        return False
    if error.retry_after_s is None:
        return True
    return error.retry_after_s if error.retry_after_s <= RETRY_AFTER_S_MAX else False
