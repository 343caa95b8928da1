"""What anyone may read without credentials: health, the CA, the OpenAPI document, and the documentation pages.

Everything is made once, when the first is asked for, and served from memory. Deliberately loads nothing from
anywhere: the page that renders the document ships with the program and runs under a strict Content-Security-Policy.
"""

import html
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from typing import Any, Final

import msgspec

from fleetvisor.api.error_pages import CAUSES, kinds, message_of
from fleetvisor.ground.errors import NotFound, Problem, Unavailable
from fleetvisor.obs.health import Health
from fleetvisor.web.answers import HTML, JSON, Answer, Header, json_answer
from fleetvisor.web.safety import NO_STORE
from fleetvisor.web.urls import Urls

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_SAFE: Final[tuple[Header, ...]] = (
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
)
_UNFIT_RETRY_S: Final = 5
_STATIC: Final = {
    "swagger-ui.css": b"text/css",
    "swagger-ui-bundle.js": b"text/javascript",
    "docs.js": b"text/javascript",
    "pages.css": b"text/css",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/{css}">{head}</head>
<body>{body}</body></html>
"""


class Pages:
    """The pages by path."""

    def __init__(
        self,
        *,
        urls: Urls,
        document: Callable[[], dict[str, Any]],
        ca_pem: bytes | None,
        ready: Callable[[], bool],
        health: Health,
    ) -> None:
        """Keep what the pages are made from when the first is asked for; ``ready`` says whether the server serves."""
        self._ready = ready
        self._health = health
        self._urls = urls
        self._document = document
        self._ca_pem = ca_pem

    @cached_property
    def _pages(self) -> dict[str, Answer]:
        urls, ca_pem = self._urls, self._ca_pem
        pages: dict[str, Answer] = {
            "/openapi.json": json_answer(self._document(), headers=((b"access-control-allow-origin", b"*"),)),
            "/docs": _reference_page("Fleetvisor API", "/openapi.json"),
            "/docs/device": _reference_page("Fleetvisor device API", "/device/v1/openapi.json"),
            "/docs/errors.json": json_answer([_listed(kind, urls) for kind in kinds()]),
        }
        if ca_pem is not None:
            pages["/ca.pem"] = Answer(200, ca_pem, ((b"content-type", b"application/x-pem-file"),))
        for code in sorted({kind.code for kind in kinds()}):
            pages[f"/docs/errors/{code}"] = _error_page(code)
        static = resources.files("fleetvisor.api") / "static"
        for name, kind in _STATIC.items():
            body = (static / name).read_bytes()
            headers = ((b"content-type", kind + b"; charset=utf-8"), *_SAFE, (b"cache-control", b"max-age=3600"))
            pages[f"/docs/static/{name}"] = Answer(200, body, headers)
        return pages

    def has(self, path: str) -> bool:
        """Return whether there is a page at ``path``."""
        return path == "/healthz" or path in self._pages

    async def get(self, path: str) -> Answer:
        """Return the page at ``path``. Raises ``NotFound``, and ``Unavailable`` for a server that is not fit."""
        if path == "/healthz":
            return await self._healthz()
        page = self._pages.get(path)
        if page is None:
            raise NotFound("No such page; the API is under /v1, its reference at /docs.")
        return page

    async def _healthz(self) -> Answer:
        if not self._ready():
            raise Unavailable("The server is starting or stopping.", retry_after_s=1)
        report = await self._health.look()
        if report.faults:
            raise Unavailable(" ".join(report.faults), retry_after_s=_UNFIT_RETRY_S)
        found: dict[str, object] = {"status": "degraded" if report.degraded else "ok"}
        if report.degraded:
            found["degraded"] = report.degraded
        if report.ages_s:
            found["jobs"] = report.ages_s
        return Answer(200, msgspec.json.encode(found), (JSON, NO_STORE))


def _listed(kind: type[Problem], urls: Urls) -> dict[str, object]:
    return {
        "code": kind.code,
        "status": kind.status,
        "message": message_of(kind),
        "causes": CAUSES[kind.code],
        "hint": kind.hint,
        "more_info": urls.more_info(kind.code),
    }


def _reference_page(title: str, document: str) -> Answer:
    body = f'<div id="docs" data-document="{document}"></div>'
    return _page(title, body, css="swagger-ui.css", script="docs.js")


def _page(title: str, body: str, *, css: str = "pages.css", script: str = "") -> Answer:
    head = ""
    if script:
        head = '<script src="/docs/static/swagger-ui-bundle.js" defer></script>'
        head += f'<script src="/docs/static/{script}" defer></script>'
    text = _PAGE.format(title=html.escape(title), css=css, head=head, body=body)
    return Answer(200, text.encode(), (HTML, *_SAFE))


def _error_page(code: int) -> Answer:
    parts = [f"<main><h1>Error {code}</h1>"]
    for kind in kinds():
        if kind.code == code:
            parts.append(f"<p><strong>HTTP {kind.status}.</strong> {html.escape(message_of(kind))}.</p>")
            causes = "".join(f"<li>{html.escape(cause)}</li>" for cause in CAUSES[code])
            parts.append(f"<h2>When it comes</h2><ul>{causes}</ul>")
            parts.append(f"<h2>What to do</h2><p>{html.escape(kind.hint)}</p>")
    parts.append('<p><a href="/docs/errors.json">All errors</a> · <a href="/docs">The API</a></p></main>')
    return _page(f"Error {code}", "".join(parts))
