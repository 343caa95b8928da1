"""The plan covers every byte of every region once, whatever the regions' boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.agent.plan import Geometry, Misfit, Plan
from fleetvisor.protocol.native import FlashLayer

GEOMETRY = Geometry(sector_bytes=64, unit_bytes=8, journal_bytes=512, internal_bytes=1024, external_bytes=512)


def layer(start: int, size: int, region: int, *, external: bool = False) -> FlashLayer:
    return FlashLayer(
        sha256="0" * 64,
        size_bytes=size,
        measurement="0" * 64,
        region="external" if external else "internal",
        region_start=start,
        region_size=region,
    )


@st.composite
def fitting_layers(draw: st.DrawFn) -> list[FlashLayer]:
    layers: list[FlashLayer] = []
    for external, room in ((False, 1024), (True, 512)):
        place = 0
        for _ in range(draw(st.integers(0, 3))):
            start = place + draw(st.integers(0, 150))
            region = draw(st.integers(1, 300))
            if start + region > room:
                break
            layers.append(layer(start, draw(st.integers(0, region)), region, external=external))
            place = start + region
    return draw(st.permutations(layers)) if layers else [layer(0, 5, 10)]


@given(fitting_layers(), st.integers(1, 400))
def test_the_blocks_of_a_plan_write_every_layer_where_it_belongs(layers: list[FlashLayer], block_bytes: int) -> None:
    """Filling a dirty slot block by block gives the layers' bytes, 0xff in the rest of their regions, nothing twice."""
    contents = [bytes([number + 1]) * each.size_bytes for number, each in enumerate(layers)]
    slot = bytearray(b"\x00" * GEOMETRY.slot_bytes)
    written: set[int] = set()
    plan = Plan(layers, GEOMETRY)
    done = fetched = 0
    while done < plan.sectors:
        block = plan.block(done, block_bytes)
        assert block.count > 0
        data = bytearray(b"\xff" * (block.count * 64))
        for piece in block.pieces:
            assert piece.start < piece.end
            data[piece.offset : piece.offset + piece.end - piece.start] = contents[piece.layer][piece.start : piece.end]
            fetched += piece.end - piece.start
        assert len(data) == block.count * 64
        assert not block.pieces or len(data) <= max(64, block_bytes)
        sectors = set(range(block.sector, block.sector + block.count))
        assert not sectors & written
        written |= sectors
        slot[block.sector * 64 : (block.sector + block.count) * 64] = data
        done += block.count
        assert plan.bytes_done(done) == fetched
    assert plan.bytes_done(0) == 0
    assert fetched == plan.bytes_total
    for each, content in zip(layers, contents, strict=True):
        start = GEOMETRY.place(each)
        assert slot[start : start + each.region_size] == content.ljust(each.region_size, b"\xff")


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [layer(0, 11, 10)],
        [layer(1000, 5, 25)],
        [layer(-1, 5, 10)],
        [layer(0, 5, 513, external=True)],
        [layer(0, 5, 100), layer(99, 5, 10)],
        [layer(0, -1, 100)],
    ],
)
def test_layers_that_do_not_fit_are_refused_before_anything_is_fetched(layers: list[FlashLayer]) -> None:
    with pytest.raises(Misfit):
        Plan(layers, GEOMETRY)


def test_a_geometry_of_broken_sectors_is_refused() -> None:
    with pytest.raises(ValueError, match="whole sectors"):
        Geometry(sector_bytes=4096, internal_bytes=1000)


def test_the_slots_and_the_journal_do_not_overlap() -> None:
    assert GEOMETRY.slot_start(0) == 2 * GEOMETRY.journal_bytes
    assert GEOMETRY.slot_start(1) == GEOMETRY.slot_start(0) + GEOMETRY.slot_bytes
    assert GEOMETRY.flash_bytes == GEOMETRY.slot_start(1) + GEOMETRY.slot_bytes
