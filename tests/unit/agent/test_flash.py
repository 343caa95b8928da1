"""The flash behaves like NOR flash, in memory and in a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetvisor.agent.flash import FileFlash, Flash, FlashFault, MemoryFlash, Moment, Operation, PowerCut
from fleetvisor.sim.loop import SeededEntropy

SECTOR, UNIT, SIZE = 256, 16, 1024


@pytest.fixture(params=["memory", "file"])
def flash(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flash]:
    if request.param == "memory":
        yield MemoryFlash(SIZE, sector_bytes=SECTOR, unit_bytes=UNIT)
    else:
        file = FileFlash(tmp_path / "flash", SIZE, sector_bytes=SECTOR, unit_bytes=UNIT)
        yield file
        file.close()


def struck(moment: Moment, operation: Operation = "write") -> MemoryFlash:
    flash = MemoryFlash(SIZE, sector_bytes=SECTOR, unit_bytes=UNIT)
    flash.write(SECTOR, bytes(SECTOR))
    flash.tear = SeededEntropy(1)
    flash.strike = lambda asked: moment if asked == operation else None
    return flash


def test_a_new_flash_is_erased(flash: Flash) -> None:
    assert flash.read(0, SIZE) == b"\xff" * SIZE


def test_what_is_written_is_read_back_across_sectors(flash: Flash) -> None:
    data = bytes(range(256)) + b"\x00" * 64
    flash.write(SECTOR - 32, data)
    assert flash.read(SECTOR - 32, len(data)) == data
    assert flash.read(SECTOR - 33, 1) == b"\xff"
    assert flash.read(SECTOR - 32 + len(data), 1) == b"\xff"


def test_a_unit_is_not_written_twice_without_an_erase(flash: Flash) -> None:
    flash.write(0, bytes(UNIT))
    with pytest.raises(FlashFault, match="not erased"):
        flash.write(0, bytes(UNIT))
    flash.erase(0)
    flash.write(0, b"\x01" * UNIT)
    assert flash.read(0, UNIT) == b"\x01" * UNIT


def test_an_erase_takes_one_sector_and_no_other(flash: Flash) -> None:
    flash.write(0, bytes(3 * SECTOR))
    flash.erase(1)
    assert flash.read(0, 3 * SECTOR) == bytes(SECTOR) + b"\xff" * SECTOR + bytes(SECTOR)


@pytest.mark.parametrize(("start", "size"), [(1, UNIT), (0, UNIT - 1), (SIZE, UNIT), (-UNIT, UNIT)])
def test_a_write_off_the_units_or_off_the_flash_is_refused(flash: Flash, start: int, size: int) -> None:
    with pytest.raises(FlashFault):
        flash.write(start, bytes(size))


@pytest.mark.parametrize("sector", [-1, SIZE // SECTOR])
def test_an_erase_off_the_flash_is_refused(flash: Flash, sector: int) -> None:
    with pytest.raises(FlashFault):
        flash.erase(sector)


def test_a_read_off_the_flash_is_refused(flash: Flash) -> None:
    with pytest.raises(FlashFault):
        flash.read(SIZE - 1, 2)


def test_a_flash_file_keeps_its_bytes_and_erased_sectors_are_holes(tmp_path: Path) -> None:
    size = 64 << 20
    flash = FileFlash(tmp_path / "flash", size)
    flash.write(4096, b"\x01" * 4096)
    flash.close()
    assert (tmp_path / "flash").stat().st_blocks * 512 < 1 << 20
    again = FileFlash(tmp_path / "flash", size)
    assert again.read(4095, 3) == b"\xff\x01\x01"
    again.close()


def test_a_flash_file_is_refused_while_another_agent_has_it(tmp_path: Path) -> None:
    flash = FileFlash(tmp_path / "flash", SIZE, sector_bytes=SECTOR)
    with pytest.raises(FlashFault, match="in use"):
        FileFlash(tmp_path / "flash", SIZE, sector_bytes=SECTOR)
    flash.close()


def test_a_flash_file_of_another_geometry_is_refused(tmp_path: Path) -> None:
    FileFlash(tmp_path / "flash", SIZE, sector_bytes=SECTOR).close()
    with pytest.raises(FlashFault, match="another geometry"):
        FileFlash(tmp_path / "flash", 2 * SIZE, sector_bytes=SECTOR)


def test_a_cut_before_a_write_leaves_nothing_and_after_it_everything() -> None:
    for moment, expected in (("before", b"\xff" * 64), ("after", bytes(64))):
        flash = struck(moment)
        with pytest.raises(PowerCut):
            flash.write(0, bytes(64))
        assert flash.read(0, 64) == expected


def test_a_torn_write_leaves_some_units_whole_and_one_of_them_partly_programmed() -> None:
    seen: set[bytes] = set()
    for seed in range(40):
        flash = struck("torn")
        flash.tear = SeededEntropy(seed)
        with pytest.raises(PowerCut):
            flash.write(0, bytes(64))
        torn = flash.read(0, 64)
        whole = len(torn) - len(torn.lstrip(b"\x00"))
        assert torn[whole // UNIT * UNIT + UNIT :].strip(b"\xff") == b""
        seen.add(torn)
    assert len(seen) > 30


def test_a_torn_erase_only_ever_sets_bits() -> None:
    for seed in range(20):
        flash = struck("torn", "erase")
        flash.tear = SeededEntropy(seed)
        with pytest.raises(PowerCut):
            flash.erase(1)
        assert flash.read(SECTOR, SECTOR) != bytes(SECTOR)
        assert flash.read(0, SECTOR) == b"\xff" * SECTOR
