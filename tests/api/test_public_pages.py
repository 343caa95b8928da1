"""What anyone may read: health, the CA, the documentation, and what it is made of."""

import re
from hashlib import sha256
from importlib import resources

import pytest
from tests.api.world import BASE, CA_PEM

from fleetvisor.db.sqlite import memory
from fleetvisor.ground import errors

STATIC = resources.files("fleetvisor.api") / "static"
CODES = sorted(
    {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)}
)


@pytest.fixture
def engine():
    """No engine differs here."""
    return memory()


async def test_health_needs_no_credentials(server):
    reply = await server.nobody().get("/healthz")
    assert reply.json == {"status": "ok"}
    server.world.ready = False
    reply = await server.nobody().get("/healthz", ok=503)
    assert reply["code"] == 20503


async def test_a_full_disk_is_health_that_is_degraded_and_no_503(server, monkeypatch):
    monkeypatch.setattr(type(server.world.db), "degraded", "disk_full")  # no engine's disk is full on demand
    reply = await server.nobody().get("/healthz")
    assert reply.json == {"status": "degraded", "degraded": {"database": "disk_full"}}


async def test_a_job_that_no_longer_comes_round_is_a_503_that_names_it(server):
    heart = server.world.health.heart("rollouts")
    assert (await server.nobody().get("/healthz")).json == {"status": "ok", "jobs": {"rollouts": 0.0}}
    heart._beat_s -= 60
    reply = await server.nobody().get("/healthz", ok=503)
    assert "The background job rollouts has not come round for 60 s." in reply["detail"]
    assert reply.headers["retry-after"] == "5"


async def test_anyone_gets_the_ca(server):
    reply = await server.nobody().get("/ca.pem")
    assert reply.response.content == CA_PEM
    assert reply.headers["content-type"] == "application/x-pem-file"


@pytest.mark.parametrize("code", CODES)
async def test_each_error_has_a_readable_page(server, code):
    reply = await server.nobody().get(f"/docs/errors/{code}")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert f"Error {code}" in reply.text
    assert "What to do" in reply.text


async def test_all_errors_are_listed(server):
    listed = (await server.nobody().get("/docs/errors.json")).json
    assert {error["code"] for error in listed} == set(CODES)
    for error in listed:
        assert set(error) == {"code", "status", "message", "causes", "hint", "more_info"}
        assert error["causes"]
        assert error["more_info"] == f"{BASE}/docs/errors/{error['code']}"
        await server.nobody().get(f"/docs/errors/{error['code']}")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/errors/1",
        "/docs/errors/",
        "/docs/errors",
        "/docs/static/",
        "/docs/static/../pages.py",
        "/docs/static/NOTICE",
    ],
)
async def test_another_page_is_not_found(server, path):
    await server.nobody().get(path, ok=404)


@pytest.mark.parametrize(
    ("path", "document"), [("/docs", "/openapi.json"), ("/docs/device", "/device/v1/openapi.json")]
)
async def test_a_reference_page_loads_only_from_here(server, path, document):
    """A strict policy: nothing inline, no other host; every file that the page names is served."""
    reply = await server.nobody().get(path)
    assert f'data-document="{document}"' in reply.text
    assert (await server.nobody().get(document))["openapi"].startswith("3.1")
    policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe", reply.headers["content-security-policy"])
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", reply.text)
    files = re.findall(r'(?:src|href)="([^"]+)"', reply.text)
    assert "/docs/static/swagger-ui-bundle.js" in files
    files.remove("data:,")  # the icon: without one a browser asks for /favicon.ico and complains of the 404
    assert "img-src 'self' data:" in reply.headers["content-security-policy"]
    for name in files:
        assert name.startswith("/docs/static/")
        static = await server.nobody().get(name)
        assert static.headers["x-content-type-options"] == "nosniff"
        assert static.response.content == (STATIC / name.rpartition("/")[2]).read_bytes()


def test_vendored_files_are_the_pinned_ones():
    """VENDORED holds the package, its version, and the SHA-256 of each file; the licences came with them."""
    first, *pinned = (STATIC / "VENDORED").read_text().splitlines()
    assert re.fullmatch(r"swagger-ui-dist \d+\.\d+\.\d+", first)
    names = {line.split()[1] for line in pinned}
    assert names == {"swagger-ui-bundle.js", "swagger-ui.css"}
    for line in pinned:
        digest, name = line.split()
        assert sha256((STATIC / name).read_bytes()).hexdigest() == digest, name
    for name in ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"):
        assert (STATIC / name).read_bytes()
    ours = {"docs.js", "pages.css", "VENDORED", "LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"}
    assert {entry.name for entry in STATIC.iterdir()} == names | ours
