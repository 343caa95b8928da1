"""The journal loses no record that it acknowledged, whatever operation the power fails at."""

import pytest

from fleetvisor.agent.flash import FlashFault, MemoryFlash, Moment, Operation, PowerCut
from fleetvisor.agent.journal import Journal
from fleetvisor.sim.loop import SeededEntropy

SECTOR = 256
WHOLE = 255


class Count:
    """A client of the journal: its state is the numbers appended so far, its snapshot all of them."""

    def __init__(self, flash: MemoryFlash) -> None:
        self.journal = Journal(flash, start=0, half_bytes=SECTOR)
        self.numbers: list[int] = []
        for record in self.journal.records:
            self.numbers = list(record[1:]) if record[0] == WHOLE else [*self.numbers, record[0]]

    def add(self, number: int) -> None:
        after = bytes([WHOLE, *self.numbers, number])
        self.journal.append(bytes([number]), lambda: after)
        self.numbers.append(number)


def new_flash(seed: int = 0) -> MemoryFlash:
    flash = MemoryFlash(2 * SECTOR, sector_bytes=SECTOR, unit_bytes=16)
    flash.tear = SeededEntropy(seed)
    return flash


def cut_at(flash: MemoryFlash, number: int, moment: Moment) -> None:
    left = number

    def strike(_: Operation) -> Moment | None:
        nonlocal left
        left -= 1
        return moment if left < 0 else None

    flash.strike = strike


def operations_of(adds: int) -> int:
    flash = new_flash()
    counted = 0

    def strike(_: Operation) -> Moment | None:
        nonlocal counted
        counted += 1
        return None

    flash.strike = strike
    count = Count(flash)
    for number in range(adds):
        count.add(number)
    return counted


def latest(flash: MemoryFlash) -> list[int]:
    return Count(flash).numbers


def test_a_blank_flash_is_an_empty_journal() -> None:
    assert Journal(new_flash(), start=0, half_bytes=SECTOR).empty


def test_records_come_back_in_order_through_many_changes_of_half() -> None:
    flash = new_flash()
    count = Count(flash)
    for number in range(60):
        count.add(number)
        assert latest(flash) == list(range(number + 1))


@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_a_cut_at_any_operation_keeps_every_acknowledged_record(moment: Moment) -> None:
    """After the cut the journal holds what was acknowledged, perhaps the record under way, and goes on."""
    for operation in range(operations_of(70)):
        flash = new_flash(operation)
        count = Count(flash)
        cut_at(flash, operation, moment)
        acknowledged = 0
        with pytest.raises(PowerCut):
            for number in range(70):
                count.add(number)
                acknowledged = number + 1
        flash.strike = None
        found = latest(flash)
        assert found in (list(range(acknowledged)), list(range(acknowledged + 1)))
        again = Count(flash)
        again.add(200)
        assert latest(flash) == [*found, 200]


def test_a_snapshot_that_does_not_fit_is_refused_and_the_journal_stays() -> None:
    flash = new_flash()
    count = Count(flash)
    count.add(1)
    count.add(2)
    with pytest.raises(FlashFault, match="does not fit"):
        count.journal.append(bytes(SECTOR), lambda: bytes(SECTOR))
    assert latest(flash) == [1, 2]


def test_halves_are_whole_sectors() -> None:
    with pytest.raises(ValueError, match="whole sectors"):
        Journal(new_flash(), start=0, half_bytes=SECTOR - 1)
