"""Firmware that is no Microvisor bundle: uploaded, shown, refused, offered natively and over DDI, on every engine."""

import hashlib

import pytest
from tests import images
from tests.api.test_ddi import Board

FILES = {
    "swupdate": (images.swu(compatible=("1.0", "rev-b")), "1.0", None, "swu"),
    "rauc": (images.rauc(), "2026.1", "board-a", "raucb"),
    "mcuboot": (images.mcuboot(version=(2, 0, 1, 7), counter=4), "2.0.1+7", None, "bin"),
    "raw": (b"\x7fELF anything", None, None, "bin"),
}


async def create(hands, content, ok=201, **form):
    return await hands.call("POST", "/v1/Apps", ok=ok, data=form, files={"File": ("any.name", content)})


async def made(hands, kind, **form):
    if kind == "raw":
        form["Kind"] = "raw"
    return (await create(hands, FILES[kind][0], **form)).json


@pytest.mark.parametrize("kind", FILES)
async def test_an_app_of_every_kind_is_shown_and_has_no_manifest(hands, kind):
    content, version, hardware_class, _ = FILES[kind]
    app = await made(hands, kind, UniqueName="firmware")
    assert app["hash"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert (app["kind"], app["version"], app["hardware_class"]) == (kind, version, hardware_class)
    assert app["size_bytes"] == len(content)
    assert app["hardware_compatibility"] == (["1.0", "rev-b"] if kind == "swupdate" else [])
    assert app["security_counter"] == (4 if kind == "mcuboot" else None)
    assert (await hands.get("/v1/Apps/firmware")).json == app
    assert (await hands.get("/v1/Apps"))["apps"] == [app]
    assert "no Manifest" in (await hands.get("/v1/Apps/firmware/Manifest", ok=404))["detail"]


@pytest.mark.parametrize("kind", FILES)
async def test_the_form_fills_in_and_overrides_nothing(hands, kind):
    _, version, hardware_class, _ = FILES[kind]
    app = await made(hands, kind, Version="form", HardwareClass="form-class")
    assert (app["version"], app["hardware_class"]) == (version or "form", hardware_class or "form-class")


@pytest.mark.parametrize("kind", FILES)
async def test_a_device_gets_the_file_over_ddi(hands, server, kind):
    content, version, _, suffix = FILES[kind]
    app = await made(hands, kind)
    board = Board(server, await hands.device())
    await hands.post(f"/v1/Devices/{board.sid}", TargetApp=app["sid"])
    deployment = (await board.call("GET", (await board.links())["deploymentBase"])).json()["deployment"]
    (chunk,) = deployment["chunks"]
    (artifact,) = chunk["artifacts"]
    assert chunk["version"] == version or version is None
    assert artifact["filename"] == f"{app['sid']}.{suffix}"
    got = (await board.call("GET", artifact["_links"]["download"]["href"])).content
    assert got == content
    for name, digest in artifact["hashes"].items():
        assert hashlib.new(name, got).hexdigest() == digest
    await board.say(1)
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["app"]["reported_sid"] == app["sid"]


async def test_a_native_device_is_offered_the_file_without_a_manifest(hands, server):
    app = await made(hands, "mcuboot")
    device = await hands.device()
    await hands.post(f"/v1/Devices/{device['sid']}", TargetApp=app["sid"])
    headers = {"authorization": f"Bearer {device['device_token']}"}
    desired = (await hands.http.get("https://mv.example.com/device/v1/desired", headers=headers)).json()["app"]
    digest = app["hash"].removeprefix("sha256:")
    nothing = {"measurement": None, "region": None, "region_start": None, "region_size": None}
    number = (await hands.get(f"/v1/Devices/{device['sid']}"))["update"]["number"]
    assert (desired["sid"], desired["manifest"], desired["update"]) == (app["sid"], None, number)
    assert desired["security_counter"] == 4
    assert desired["layers"] == [{"sha256": digest, "size_bytes": app["size_bytes"], **nothing}]
    file = await hands.http.get(f"https://mv.example.com/device/v1/layers/{digest}", headers=headers)
    assert file.content == FILES["mcuboot"][0]
    missing = await hands.http.get(f"https://mv.example.com/device/v1/manifests/{digest}", headers=headers)
    assert missing.status_code == 404
    report = {"journal": "0" * 32, "sequence": 1, "running": {"app": app["sid"]}}
    await hands.http.post("https://mv.example.com/device/v1/report", headers=headers, json=report)
    shown = (await hands.get(f"/v1/Devices/{device['sid']}")).json
    assert (shown["app"]["reported_sid"], shown["update"]["state"]) == (app["sid"], "succeeded")


@pytest.mark.parametrize(
    ("content", "form", "rule"),
    [
        (b"anything", {}, "Kind=raw"),
        (b"anything", {"Kind": "exe"}, "Kind must be one of"),
        (images.swu(), {"Kind": "rauc"}, "of the kind swupdate, not rauc"),
        (b"", {"Kind": "raw"}, "empty"),
        (b"anything", {"Kind": "raw", "Version": "v" * 129}, "Version must have 1 to 128"),
        (b"anything", {"Kind": "raw", "HardwareClass": "tab\t"}, "HardwareClass must have 1 to 128"),
        (images.swu()[:-200], {}, "truncated"),
        (images.mcuboot()[:-1], {}, "TLV area"),
        (images.rauc()[4096:], {}, "squashfs"),
    ],
)
async def test_what_is_wrong_is_refused_with_its_rule(hands, server, content, form, rule):
    assert rule in (await create(hands, content, ok=400, **form))["detail"]
    assert list(server.spool.iterdir()) == []
    assert (await hands.get("/v1/Apps"))["apps"] == []


async def test_a_zip_may_be_kept_as_a_raw_file(hands):
    from tests.bundles import simple_bundle

    app = (await create(hands, simple_bundle(), Kind="raw")).json
    assert (app["kind"], app["links"]["app_manifests"]) == ("raw", app["url"] + "/Manifest")


async def test_two_classes_that_differ_refuse_each_other(hands):
    app = await made(hands, "rauc")
    free = await made(hands, "mcuboot")
    device = await hands.device("d", HardwareClass="board-b")
    assert device["hardware_class"] == "board-b"
    refused = await hands.post("/v1/Devices/d", ok=409, TargetApp=app["sid"], UniqueName="other")
    assert "board-a" in refused["detail"]
    assert "board-b" in refused["detail"]
    assert (await hands.get("/v1/Devices/d"))["update"] is None
    await hands.post("/v1/Devices/d", TargetApp=free["sid"])
    both = await hands.post("/v1/Devices/d", TargetApp=app["sid"], HardwareClass="board-a")
    assert (both["hardware_class"], both["app"]["target_sid"]) == ("board-a", app["sid"])
    await hands.post("/v1/Devices/d", ok=409, HardwareClass="board-b")
    assert (await hands.post("/v1/Devices/d", HardwareClass=""))["hardware_class"] is None
    await hands.post("/v1/Devices/d", TargetApp=free["sid"])
    await hands.post("/v1/Devices/d", ok=400, HardwareClass="x" * 129)


async def test_the_same_file_twice_is_stored_once_and_goes_with_the_last(hands):
    one, two = await made(hands, "swupdate"), await made(hands, "swupdate")
    assert one["hash"] == two["hash"]
    await hands.delete(f"/v1/Apps/{one['sid']}")
    board = await hands.device("d")
    await hands.post("/v1/Devices/d", TargetApp=two["sid"])
    headers = {"authorization": f"Bearer {board['device_token']}"}
    digest = two["hash"].removeprefix("sha256:")
    file = await hands.http.get(f"https://mv.example.com/device/v1/layers/{digest}", headers=headers)
    assert file.content == FILES["swupdate"][0]
