"""Uploads and the App resource: what clients send, what they get, and what never stays behind."""

import hashlib
import re
from base64 import b64decode
from zipfile import ZipFile

import pytest
from tests.api.world import BASE, serving
from tests.bundles import KEY, simple_bundle

from fleetvisor.db.sqlite import memory

BOUNDARY = b"----bound"
TYPE = {"content-type": "multipart/form-data; boundary=----bound"}


def part(name, data, more=b""):
    return b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (BOUNDARY, name, more, data)


END = b"--%s--\r\n" % BOUNDARY


@pytest.fixture
def upload(hands):
    """Send a raw multipart body."""

    async def send(body, *, ok=201, headers=TYPE):
        return await hands.post("/v1/Apps", ok=ok, content=body, headers=headers)

    return send


@pytest.fixture(autouse=True)
async def nothing_is_left(server):
    """After every test the spool is empty."""
    yield
    assert list(server.spool.iterdir()) == []


async def test_an_uploaded_bundle_is_an_app(hands):
    bundle = simple_bundle()
    reply = await hands.call(
        "POST", "/v1/Apps", ok=201, data={"UniqueName": "thermostat-1.4.2"}, files={"File": ("x", bundle)}
    )
    app = reply.json
    manifest = _manifest(bundle)
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
    url = f"{BASE}/v1/Apps/{app['sid']}"
    assert re.fullmatch("KA[0-9a-f]{32}", app["sid"])
    assert app == {
        "sid": app["sid"],
        "account_sid": hands.auth[0],
        "hash": digest,
        "unique_name": "thermostat-1.4.2",
        "date_created": "2026-01-01T00:00:00Z",
        "date_updated": "2026-01-01T00:00:00Z",
        "url": url,
        "links": {"app_manifests": f"{url}/Manifest"},
        "bears_signature": False,
        "signed": False,
        "kind": "bundle",
        "version": None,
        "hardware_class": None,
        "hardware_compatibility": [],
        "security_counter": None,
        "damaged": False,
        "size_bytes": app["size_bytes"],
    }
    assert "location" not in reply.headers
    for ref in (app["sid"], app["sid"][:2] + app["sid"][2:].upper(), "thermostat-1.4.2"):
        assert (await hands.get(f"/v1/Apps/{ref}")).json == app
        shown = (await hands.get(f"/v1/Apps/{ref}/Manifest")).json
        assert shown.pop("encoded_bytes")
        assert shown == {"app_sid": app["sid"], "hash": digest, "url": f"{url}/Manifest"}
    encoded = (await hands.get(f"{url}/Manifest"))["encoded_bytes"]
    assert b64decode(encoded, validate=True) == manifest


def _manifest(bundle):
    from io import BytesIO

    with ZipFile(BytesIO(bundle)) as zip_file:
        return zip_file.read("manifest")


async def test_a_signed_bundle_shows_that_it_is(upload):
    body = part(b"File", simple_bundle(sign_key=KEY), b'; filename="a.zip"') + END
    assert (await upload(body))["signed"] is True


@pytest.mark.parametrize("host", ["microvisor-upload.twilio.com", "localhost:8443", "anything"])
async def test_any_host_name_takes_uploads(hands, host):
    files = {"File": ("b.zip", simple_bundle())}
    reply = await hands.call("POST", "/v1/Apps", ok=201, files=files, headers={"host": host})
    assert reply["url"].startswith(BASE + "/")


@pytest.mark.parametrize(
    "body",
    [
        lambda bundle: part(b"File", bundle) + part(b"UniqueName", b"n") + END,
        lambda bundle: part(b"UniqueName", b"n") + part(b"File", bundle) + END,
        lambda bundle: b"preamble\r\n" + part(b"UniqueName", b"n") + part(b"File", bundle) + END + b"epilogue\r\nmore",
        lambda bundle: part(b"UniqueName", b"n") + part(b"File", bundle, b'; filename="../../etc/passwd"') + END,
        lambda bundle: part(b"UniqueName", b"n") + part(b"File", bundle, b"\r\nContent-Type: text/html") + END,
        lambda bundle: part(b"UniqueName", b"n") + part(b"Other", b"ignored") + part(b"File", bundle) + END,
        lambda bundle: part(b"UniqueName", b"n") + part(b"File", bundle) + END[:-2],
    ],
    ids=["name after", "name before", "preamble and epilogue", "file name", "type", "other part", "no final newline"],
)
async def test_the_parts_may_stand_in_any_order_and_shape(upload, body):
    assert (await upload(body(simple_bundle())))["unique_name"] == "n"


async def test_an_upload_may_arrive_in_pieces_of_any_size(hands):
    body = part(b"UniqueName", b"pieces") + part(b"File", simple_bundle()) + END

    async def pieces():
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    assert (await hands.post("/v1/Apps", ok=201, content=pieces(), headers=TYPE))["unique_name"] == "pieces"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (part(b"UniqueName", b"n") + END, "File"),
        (END, "File"),
        (part(b"file", b"x") + END, "File"),
        (part(b"File", b"x") + part(b"File", b"x") + END, "more than one"),
        (part(b"File", b"x") + part(b"UniqueName", b"a") + part(b"UniqueName", b"a") + END, "more than one"),
        (part(b"File", b"x") * 1, "truncated"),
        (part(b"File", b"x")[:-9], "truncated"),
        (b"", "truncated"),
        (b"no multipart at all", ""),
        (b"--" + BOUNDARY + b"\r\nX-Nothing: 1\r\n\r\nx\r\n" + END, "Content-Disposition"),
        (b"--" + BOUNDARY + b'\r\nContent-Disposition: attachment; name="File"\r\n\r\nx\r\n' + END, "form-data"),
        (b"--" + BOUNDARY + b"\r\nbad header line\r\n\r\nx\r\n" + END, ""),
        (part(b"UniqueName", b"\xff") + part(b"File", b"x") + END, "UTF-8"),
        (part(b"UniqueName", b"a\0b") + part(b"File", b"x") + END, "NUL"),
        (part(b"F\xffile", b"x") + END, "UTF-8"),
        (part(b"F\0ile", b"x") + END, ""),
        (part(b"UniqueName", b"n" * 5000) + part(b"File", b"x") + END, "UniqueName"),
        (part(b"UniqueName", b"a/b") + part(b"File", simple_bundle()) + END, "UniqueName"),
        (part(b"UniqueName", b"a" * 65) + part(b"File", simple_bundle()) + END, "UniqueName"),
        (part(b"a", b"x") * 40 + END, "parts"),
        (part(b"File", b"x", b"\r\nX-Long: " + b"y" * 10_000) + END, "header"),
        (part(b"File", b"x", b"\r\nX-Many: y" * 100) + END, "header"),
        (part(b"File", b"not a zip") + END, ""),
        (part(b"File", b"") + END, ""),
    ],
)
async def test_a_malformed_upload_is_refused(upload, body, word):
    reply = await upload(body, ok=400)
    assert reply["code"] == 20001
    assert word in reply["detail"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/zip",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "multipart/form-dat",
        "",
    ],
)
async def test_an_upload_that_is_no_form_is_refused(upload, content_type):
    headers = {} if content_type is None else {"content-type": content_type}
    assert (await upload(b"PK", ok=415, headers=headers))["code"] == 20415


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""']
)
async def test_a_form_without_a_boundary_is_refused(upload, content_type):
    assert (await upload(b"PK", ok=400, headers={"content-type": content_type}))["code"] == 20001


async def test_a_boundary_may_not_be_endless(upload):
    headers = {"content-type": "multipart/form-data; boundary=" + "b" * 5000}
    assert "boundary" in (await upload(b"PK", ok=400, headers=headers))["detail"]


async def test_a_name_belongs_to_one_app(hands):
    await hands.app("v1")
    reply = await hands.call(
        "POST", "/v1/Apps", ok=409, data={"UniqueName": "v1"}, files={"File": ("x", simple_bundle())}
    )
    assert reply["code"] == 20409


async def test_the_same_bundle_again_is_another_app(hands):
    first = await hands.app(firmware=b"same " * 100)
    second = await hands.app(firmware=b"same " * 100)
    assert first["hash"] == second["hash"]
    assert first["sid"] != second["sid"]


async def test_an_empty_name_is_no_name(upload):
    assert (await upload(part(b"UniqueName", b"") + part(b"File", simple_bundle()) + END))["unique_name"] is None


async def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(tmp_path):
    async with serving(memory(), tmp_path, firmware_bytes_max=4096) as server:
        read = []

        async def body():
            read.append(1)
            yield b"x"

        headers = TYPE | {"content-length": str(4096 + (64 << 10) + 1)}
        reply = await server.hands.post("/v1/Apps", ok=413, content=body(), headers=headers)
        assert reply["code"] == 20413
        assert list(server.spool.iterdir()) == []


async def test_a_stream_over_the_limit_is_cut_off(tmp_path):
    """Without a length the bytes are counted, of the part and of the whole; what was spooled is removed."""
    async with serving(memory(), tmp_path, bundle_bytes_max=4096, firmware_bytes_max=8192) as server:
        taken = 0

        async def endless(start):
            nonlocal taken
            yield start
            while True:
                taken += 1000
                yield b"y" * 1000

        head = part(b"File", b"")[:-2]
        reply = await server.hands.post("/v1/Apps", ok=413, content=endless(head + b"PK\x03\x04"), headers=TYPE)
        assert taken < 6000
        assert "Kind=raw" in reply["detail"]
        await server.hands.post("/v1/Apps", ok=413, content=endless(head), headers=TYPE)
        await server.hands.post("/v1/Apps", ok=413, content=endless(b"a long preamble"), headers=TYPE)
        assert taken < 3 * (64 << 10) + 8192
        assert list(server.spool.iterdir()) == []


async def test_a_client_that_goes_away_leaves_nothing(server):
    """The request ends without a complaint. The answer is for a body that cannot be read, which looks the same."""
    sent = []
    body = part(b"File", simple_bundle())
    messages = iter([{"type": "http.request", "body": body[:50], "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    from base64 import b64encode

    basic = b64encode(":".join(server.hands.auth).encode())
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/Apps",
        "raw_path": b"/v1/Apps",
        "query_string": b"",
        "headers": [(b"content-type", TYPE["content-type"].encode()), (b"authorization", b"Basic " + basic)],
    }
    await server.world.app(scope, receive, send)
    assert [message["status"] for message in sent if "status" in message] == [400]


async def test_a_slow_upload_is_ended(tmp_path):
    import asyncio

    async with serving(memory(), tmp_path, upload_time_s=0.05) as server:

        async def slow():
            yield part(b"File", b"x")
            await asyncio.sleep(0.2)
            yield END

        reply = await server.hands.post("/v1/Apps", ok=503, content=slow(), headers=TYPE)
        assert reply["code"] == 20503
        assert reply.headers["retry-after"]
        assert list(server.spool.iterdir()) == []


async def test_a_targeted_app_cannot_be_removed(hands):
    await hands.app("v1")
    await hands.device("d")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    assert (await hands.delete("/v1/Apps/v1", ok=409))["code"] == 20409
    await hands.post("/v1/Devices/d", TargetApp="")
    await hands.delete("/v1/Apps/v1")
    await hands.delete("/v1/Apps/v1", ok=404)
    await hands.get("/v1/Apps/v1/Manifest", ok=404)


async def test_apps_are_listed_newest_first(server, hands):
    made = []
    for number in range(5):
        made.append((await hands.app(f"v{number}"))["sid"])
        server.clock.advance(1)
    pages = await hands.walk("/v1/Apps", "apps", PageSize=2)
    assert [app["sid"] for page in pages for app in page] == made[::-1]


async def test_the_number_of_apps_is_bounded(tmp_path):
    async with serving(memory(), tmp_path, apps_per_account_max=1) as server:
        await server.hands.app("v1")
        files = {"File": ("x", simple_bundle(b"other"))}
        assert (await server.hands.call("POST", "/v1/Apps", ok=409, files=files))["code"] == 20409
        await server.hands.delete("/v1/Apps/v1")
        await server.hands.app("v2")
