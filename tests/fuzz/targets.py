"""Every parser of bytes that come from elsewhere, as a target of the fuzzer."""

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil

import msgspec
from tests import bundles, images, jws
from tests.fuzz.engine import Target
from tests.unit.protocol.test_firmware import elf

from fleetvisor.api import uploads
from fleetvisor.channel.ddi.credentials import parse_gateway_token, parse_target_token
from fleetvisor.channel.native.prefer import wait_of
from fleetvisor.features.devices import selectors
from fleetvisor.features.identity import batch
from fleetvisor.ground.errors import Problem
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import (
    bundle,
    ddi,
    firmware,
    libconfig,
    manifest,
    mcuboot,
    native,
    rauc,
    reports,
    signing,
    swupdate,
)
from fleetvisor.protocol import images as kinds
from fleetvisor.protocol import jws as signed
from fleetvisor.reality import RealClock, inline
from fleetvisor.web import auth, conditional, requests
from fleetvisor.web.address import Addresses

LIMITS = Limits()
logging.getLogger("python_multipart").disabled = True  # a line for each body that is no multipart
BOUNDARY = b"multipart/form-data; boundary=b"
ETAG = b'"abc"'
JSON = (b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"\\u0000", b"1e9", b"\xff")
HEADER = (b",", b";", b"=", b'"', b"\t", b"bytes=", b"-", b'W/"', b"\\", b"for=")


def _bundle(data, folder):
    there = folder / "bundle"
    there.mkdir()
    try:
        bundle.parse(io.BytesIO(data), there, LIMITS)
        return sum(path.stat().st_size for path in there.iterdir())
    finally:
        shutil.rmtree(there)


def _stream(read):
    return lambda data, _: len(repr(read(io.BytesIO(data), len(data))))


def _any_kind(data, folder):
    file = folder / "file"
    file.write_bytes(data)
    kind = kinds.recognise(file)
    return 0 if kind is None else len(repr(kinds.parse(file, kind, LIMITS)))


def _multipart(data, folder):
    spooled = folder / "spooled"
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)] or [b""]

    async def message():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"content-type", BOUNDARY)],
    }
    try:
        asyncio.run(uploads.receive(requests.Request(scope, message, clock=RealClock()), spooled, LIMITS, inline))
        return os.path.getsize(spooled)
    finally:
        spooled.unlink(missing_ok=True)


def _conditional(data, _):
    conditional.matches(data, ETAG)
    conditional.range_applies(data, ETAG)
    return len(repr(conditional.parse_range(data, 1000)))


def _authorization(data, _):
    for parse in (auth.parse_basic, auth.parse_bearer, parse_target_token, parse_gateway_token):
        try:
            parse(data)
        except Problem:
            continue
    return 0


def _address(data, _):
    import ipaddress

    scope = {"client": ("10.0.0.1", 1), "headers": [(b"forwarded", data)]}
    networks = (ipaddress.ip_network("10.0.0.0/8"),)
    told = len(Addresses(networks).of(scope))
    scope["headers"] = [(b"x-forwarded-for", data)]
    return told + len(Addresses(networks).of(scope))


def _json(data, _):
    made = 0
    for parse in (ddi.parse_feedback, ddi.parse_config_data, ddi.parse_confirmation):
        try:
            made += len(repr(parse(data)))
        except Problem:
            continue
    return made


def _native(data, _):
    made = 0
    with contextlib.suppress(Problem):
        made += len(repr(reports.parse_report(data)))
    for kind in (native.Report, native.FetchRequest, native.EnrollRequest):
        try:
            made += len(repr(msgspec.json.decode(data, type=kind)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return made


def _text(parse):
    return lambda data, _: len(repr(parse(data.decode("latin-1"))))


def _feedback():
    told = {"id": "1", "status": {"execution": "closed", "result": {"finished": "success"}, "details": ["a", "b"]}}
    return [
        json.dumps(told).encode(),
        json.dumps({"mode": "merge", "data": {"serial": "1", "x": "y"}}).encode(),
        json.dumps({"confirmation": "confirmed", "code": 1, "details": []}).encode(),
    ]


def _report():
    return [
        json.dumps({"sequence": 1, "running": {"app": None}, "update": {"sid": "KU", "state": "failed"}}).encode(),
        json.dumps({"keys": [{"store": "config", "scope": "device", "key": "k"}]}).encode(),
    ]


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="UniqueName"\r\n\r\nn\r\n'
    b'--b\r\nContent-Disposition: form-data; name="File"; filename="f"\r\n\r\ndata\r\n--b--\r\n'
)
PARTS = (b"\r\n", b"--b", b"--b--", b"\r\n--", b"Content-Disposition: form-data; name=", b";", b"-", b"\r")
CSV = b"name,public_key,token_hash,labels\nd1,,%s,site=graz\nd2,,%s,\n" % (b"a" * 64, b"b" * 64)
CONFIG = (b"{", b"}", b"(", b")", b"[", b"]", b"=", b";", b",", b'"', b"/*", b"*/", b"//", b"#", b"1,", b"a=1;", b'"",')
TARGETS = (
    Target("bundle", _bundle, lambda: [bundles.simple_bundle(b"x" * 200, size=4096), bundles.zipfile_bundle()],
           (Problem,), (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\7\10", b"\0\0\0\xff\xff", b"\3\0"), made_bytes_max=64 << 20),
    Target("manifest", lambda data, _: len(repr(manifest.decode(data, LIMITS))), lambda: [bundles.manifest()], (Problem,),
           (b"\x0a\0", b"\x0a\x80\x80\x80\x80\x10", b"\x80", b"\x0b")),
    Target("swupdate", _stream(swupdate.read), lambda: [images.swu(), images.swu(crc=False)], (Problem,),
           (b"070702", b"070701", b"TRAILER!!!\0", b"00000000", b"ffffffff", *CONFIG), bytes_max=300 << 10),
    Target("libconfig", _text(libconfig.parse),
           lambda: [images.description((("a", b"b", "/c"),))], (libconfig.Malformed,), CONFIG, bytes_max=256 << 10,
           made_bytes_max=4 << 20),
    Target("rauc", _stream(rauc.read), lambda: [images.rauc(), images.rauc(kind="crypt"), images.rauc(kind="plain")],
           (Problem,), (b"\x30\x80", b"\x30\x84\0\0\0\0", b"\0\0", b"\x24\x80", b"\4\0", b"[update]\n", b"a=\n", b"\\n")),
    Target("mcuboot", _stream(mcuboot.read), lambda: [images.mcuboot(), images.mcuboot(counter=7), images.mcuboot(order=">")],
           (Problem,), (b"\x07\x69", b"\x08\x69", b"\x10\0\x20\0", b"\x50\0\4\0")),
    Target("elf", lambda data, _: len(firmware.flatten(data)),
           lambda: [elf([(firmware.ROM_START, b"text"), (firmware.ROM_START + 64, b"data")])], (Problem,),
           (b"\x7fELF", b"\0\0\0\x08", b"\1\0\0\0"), made_bytes_max=1 << 20),
    Target("firmware", _any_kind, lambda: [images.swu(), images.rauc(), images.mcuboot()], (Problem,), (b"070701", b"hsqs")),
    Target("multipart", _multipart, lambda: [MULTIPART], (Problem,), PARTS, bytes_max=128 << 10),
    Target("form", lambda data, _: len(requests.parse_fields(data, "The form")), lambda: [b"a=b&c=%20d&e=+"], (Problem,),
           (b"&", b"=", b"%", b"+", b"%00", b"a=&")),
    Target("media-type", lambda data, _: len(requests.parse_media_type(data)), lambda: [BOUNDARY], (), HEADER,
           bytes_max=16 << 10),
    Target("csv", lambda data, _: len(repr([*batch.parse(io.BytesIO(data), LIMITS)])), lambda: [CSV], (Problem,),
           (b",", b"\n", b'"', b'""', b"\r", b";", b"name,"), made_bytes_max=4 << 20),
    Target("jws", _text(signed.parse), lambda: [jws.Key().sign({"sub": "a", "aud": "b", "exp": 1}).encode()], (Problem,),
           (b".", b"=", b"-", b"_", b"e30"), bytes_max=16 << 10),
    Target("public-key", _text(signed.parse_public_key), lambda: [jws.Key().public.encode()], (Problem,),
           (b"-----BEGIN PUBLIC KEY-----\n", b"=", b"A"), bytes_max=16 << 10),
    Target("pem", lambda data, _: len(repr(signing.load_public_key(data))),
           lambda: [b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"], (Problem,),
           (b"-----BEGIN ", b"-----END ", b"-----", b"A", b"=\n")),
    Target("ddi-json", _json, _feedback, (), JSON),
    Target("native-json", _native, _report, (), JSON),
    Target("conditional", _conditional, lambda: [b'"a", W/"b"', b"bytes=0-9", ETAG], (Problem,), HEADER, bytes_max=16 << 10),
    Target("prefer", lambda data, _: wait_of(data) or 0, lambda: [b"wait=30", b'a; b="c", wait="3"'], (), HEADER,
           bytes_max=16 << 10, made_bytes_max=10**9),
    Target("authorization", _authorization, lambda: [b"Basic YTpi", b"Bearer x", b"TargetToken y"], (), (b"Basic ", b"=", b" ", b"\t"),
           bytes_max=16 << 10),
    Target("forwarded", _address, lambda: [b'for="[::1]:1";by=x, for=1.2.3.4', b"1.2.3.4, ::1"], (Problem,), HEADER, bytes_max=16 << 10),
    Target("selector", _text(lambda text: selectors.parse(text, LIMITS)), lambda: [b"site=graz,ring in (1,2),!canary,seen<5m"],
           (Problem,), (b",", b"=", b"!", b"(", b")", b" in (", b"a,", b'"', b"<"), bytes_max=4 << 10),
)  # fmt: skip
