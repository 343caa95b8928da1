"""Manifests and layers: whole, in ranges, conditionally, and only for devices whose account has them."""

import asyncio
import hashlib
import itertools

import pytest
from tests.native_world import Worlds

from fleetvisor.blobs.store import BlobFault, Blobs
from fleetvisor.channel.download import AbortedStream

FIRMWARE = bytes(itertools.islice(itertools.cycle(range(251)), 40_000))
BIG = bytes(itertools.islice(itertools.cycle(range(241)), 900_000))


@pytest.fixture
async def worlds(tmp_path):
    return Worlds(tmp_path)


@pytest.fixture
async def world(worlds):
    world = worlds.make()
    yield world
    await world.close()


@pytest.fixture
async def device(worlds, world):
    return await worlds.device(world)


@pytest.fixture
async def layer(worlds, world, device):
    """The path of a layer whose bytes are FIRMWARE."""
    _, layers = await worlds.app(world, device.account_sid, FIRMWARE)
    return f"layers/{layers[0].digest}"


async def test_a_layer_comes_whole_with_its_digest_as_tag(device, layer):
    answer = await device.get(layer)
    assert answer.status == 200
    assert answer.body == FIRMWARE
    assert answer.header("etag") == f'"{hashlib.sha256(FIRMWARE).hexdigest()}"'
    assert answer.header("content-length") == "40000"
    assert answer.header("content-type") == "application/octet-stream"
    assert answer.header("cache-control") == "private, immutable, max-age=31536000"
    assert answer.header("accept-ranges") == "bytes"
    assert answer.header("date")


async def test_a_manifest_comes_as_it_was_uploaded(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    answer = await device.get(f"manifests/{app.manifest_hash}")
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == app.manifest_hash
    part = await device.get(f"manifests/{app.manifest_hash}", ("Range", "bytes=2-5"))
    assert (part.status, part.body) == (206, answer.body[2:6])


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=39999-", 39_999, 40_000),
        ("bytes=30000-99999999999", 30_000, 40_000),
        ("bytes=-10", 39_990, 40_000),
        ("bytes=-99999", 0, 40_000),
        ("Bytes = 5-6", 5, 7),
    ],
)
async def test_a_range_comes_as_206(device, layer, header, start, end):
    for _ in range(2):  # read first, then from memory
        answer = await device.get(layer, ("Range", header))
        assert answer.status == 206
        assert answer.body == FIRMWARE[start:end]
        assert answer.header("content-range") == f"bytes {start}-{end - 1}/40000"
        assert answer.header("content-length") == str(end - start)
        assert answer.header("cache-control").startswith("private, immutable")


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,5-6", "lines=0-1", "bytes=x", "", "bytes=-"])
async def test_a_range_that_is_none_is_answered_with_the_whole(device, layer, header):
    answer = await device.get(layer, ("Range", header))
    assert (answer.status, answer.body) == (200, FIRMWARE)


@pytest.mark.parametrize("header", ["bytes=40000-", "bytes=99999-100000", "bytes=-0"])
async def test_a_range_outside_is_416_and_says_the_size(device, layer, header):
    answer = await device.get(layer, ("Range", header))
    assert answer.status == 416
    assert answer.header("content-range") == "bytes */40000"
    assert answer.json["code"] == 20416
    assert set(answer.json) == {"code", "detail", "message", "more_info", "status"}


async def test_if_range_serves_the_range_only_for_the_same_tag(device, layer):
    etag = (await device.head(layer)).header("etag")
    ask = ("Range", "bytes=0-9")
    assert (await device.get(layer, ask, ("If-Range", etag))).status == 206
    assert (await device.get(layer, ask, ("If-Range", '"other"'))).status == 200
    assert (await device.get(layer, ask, ("If-Range", "W/" + etag))).status == 200
    assert (await device.get(layer, ask, ("If-Range", "Wed, 21 Oct 2026 07:28:00 GMT"))).status == 200


async def test_head_gives_the_length_and_ignores_a_range(device, layer):
    answer = await device.head(layer, ("Range", "bytes=0-9"))
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "40000")


async def test_what_the_device_has_is_304(device, layer):
    etag = (await device.head(layer)).header("etag")
    answer = await device.get(layer, ("If-None-Match", etag), ("Range", "bytes=0-9"))
    assert (answer.status, answer.body, answer.header("etag")) == (304, b"", etag)


@pytest.mark.parametrize("kind", ["layers", "manifests"])
@pytest.mark.parametrize("digest", ["0" * 64, "F" * 64, "short", "", "0" * 64 + "/", "../../etc/passwd"])
async def test_what_nobody_has_is_404(device, kind, digest):
    answer = await device.get(f"{kind}/{digest}")
    assert answer.status == 404
    assert answer.json["code"] == 20404


async def test_another_accounts_content_is_404_also_from_memory(worlds, world, device, layer):
    stranger = await worlds.device(world, account_sid=(await world.accounts.create()).account_sid)
    assert (await device.get(layer)).status == 200
    assert (await device.get(layer, ("Range", "bytes=0-9"))).status == 206
    for headers in [(), (("Range", "bytes=0-9"),), (("If-None-Match", "*"),)]:
        assert (await stranger.get(layer, *headers)).status == 404
    app = (await world.apps.list(device.account_sid, _page())).items[0]
    assert (await stranger.get(f"manifests/{app.manifest_hash}")).status == 404


async def test_a_removed_app_is_gone_at_once_also_from_memory(worlds, world, device):
    app, layers = await worlds.app(world, device.account_sid)
    path = f"layers/{layers[0].digest}"
    for _ in range(2):
        assert (await device.get(path)).status == 200
    await world.apps.delete(device.account_sid, app.app_sid)
    assert (await device.get(path)).status == 404
    assert (await device.get(f"manifests/{app.manifest_hash}")).status == 404


async def test_a_right_is_not_taken_from_memory_while_the_bus_is_stale(world, device, layer, monkeypatch):
    await device.get(layer)
    world.bus.fresh = False
    asked = []
    find = world.apps.find_layer

    async def counted(*args):
        asked.append(args)
        return await find(*args)

    monkeypatch.setattr(world.apps, "find_layer", counted)  # counts the look-ups
    await device.get(layer)
    assert len(asked) == 1


async def test_a_wrong_token_is_401(device, layer):
    answer = await device.get(layer, token="fvd_wrong")
    assert answer.status == 401
    assert answer.header("www-authenticate").startswith("Bearer")


async def test_a_large_layer_comes_in_pieces(worlds, world, device):
    _, layers = await worlds.app(world, device.account_sid, BIG, size=1 << 20)
    answer = await device.get(f"layers/{layers[0].digest}")
    assert answer.body == BIG
    assert max(len(piece) for piece in device.pieces) <= 32 << 10
    part = await device.get(f"layers/{layers[0].digest}", ("Range", "bytes=1000-800000"))
    assert part.body == BIG[1000:800_001]


async def test_a_layer_larger_than_the_memory_for_layers_is_read_in_pieces(worlds):
    world = worlds.make(layer_cache_bytes=100_000)
    device = await worlds.device(world)
    _, layers = await worlds.app(world, device.account_sid, BIG, size=1 << 20)
    assert (await device.get(f"layers/{layers[0].digest}")).body == BIG
    part = await device.get(f"layers/{layers[0].digest}", ("Range", "bytes=5-300009"))
    assert part.body == BIG[5:300_010]
    assert world.channel._download._cache.size_bytes == 0


async def test_concurrent_requests_read_a_layer_once(device, layer, monkeypatch):
    reads = []
    get_whole = Blobs.get_whole

    async def slow(self, name, **keys):
        reads.append(name)
        await asyncio.sleep(0.01)
        return await get_whole(self, name, **keys)

    monkeypatch.setattr(Blobs, "get_whole", slow)  # no disk is slow on demand
    answers = await asyncio.gather(*(device.get(layer, ("Range", f"bytes={n}-{n}")) for n in range(20)))
    assert [answer.body for answer in answers] == [FIRMWARE[n : n + 1] for n in range(20)]
    assert len(reads) == 1


async def test_bytes_that_cannot_be_read_are_503_and_served_once_they_can(device, layer, monkeypatch):
    async def fail(*_, **__):
        raise BlobFault("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "get_whole", fail)  # no disk fails on demand
        answers = await asyncio.gather(device.get(layer), device.get(layer))
    assert {answer.status for answer in answers} == {503}
    assert b"disk" not in answers[0].body
    assert (await device.get(layer)).body == FIRMWARE


async def test_bytes_that_end_early_close_the_connection(worlds, monkeypatch):
    """After the answer began nothing else can be said: the application fails, and the server closes."""
    world = worlds.make(layer_cache_bytes=0)
    device = await worlds.device(world)
    _, layers = await worlds.app(world, device.account_sid, BIG, size=1 << 20)
    get_range = Blobs.get_range

    async def second_fails(self, name, start, end):
        if start:
            raise BlobFault("the disk is gone")
        return await get_range(self, name, start, end)

    monkeypatch.setattr(Blobs, "get_range", second_fails)  # no disk fails on demand
    with pytest.raises(AbortedStream):
        await device.get(f"layers/{layers[0].digest}")


def _page():
    from fleetvisor.ground.pages import PageRequest

    return PageRequest()
