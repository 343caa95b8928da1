"""The slots hold what was programmed, and the journal says which of them counts."""

import pytest
from tests.unit.agent.script import GEOMETRY, app, firmware, manifest

from fleetvisor.agent.flash import FlashFault, MemoryFlash
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.runner import memory_flash
from fleetvisor.agent.slots import Slots
from fleetvisor.agent.state import Armed, Booted, Confirmed, Image, Marked, Started
from fleetvisor.protocol.native import FlashLayer
from fleetvisor.sim.loop import SeededEntropy

LAYERS = app("v1", 1).layers


def open_slots(flash: MemoryFlash) -> Slots:
    return Slots(flash, GEOMETRY, SeededEntropy(7))


def install(slots: Slots, name: str, number: int) -> None:
    slots.keep(Started(number, Image(manifest(name), "KA" + "0" * 32)))
    slots.program(0, 8, firmware(name))
    slots.keep(Marked(8))
    assert slots.verify(app(name, number).layers)
    slots.keep(Armed())
    slots.keep(Booted())
    slots.keep(Confirmed())


def test_the_journal_id_is_made_once() -> None:
    flash = memory_flash(GEOMETRY)
    first = open_slots(flash).state.journal
    assert Slots(flash, GEOMETRY, SeededEntropy(8)).state.journal == first


def test_the_state_survives_many_boots_and_changes_of_half() -> None:
    flash = memory_flash(GEOMETRY)
    for boot in range(200):
        slots = open_slots(flash)
        assert slots.state.boot_count == boot
        slots.keep(Booted())


def test_updates_alternate_between_the_slots_and_leave_the_other_alone() -> None:
    slots = open_slots(memory_flash(GEOMETRY))
    install(slots, "v1", 1)
    assert slots.state.confirmed == 0
    install(slots, "v2", 2)
    assert slots.state.confirmed == 1
    assert slots.read(0, LAYERS[0]) == firmware("v1").ljust(512, b"\xff")
    assert slots.read(1, LAYERS[0]) == firmware("v2").ljust(512, b"\xff")
    install(slots, "v3", 3)
    assert slots.read(1, LAYERS[0]) == firmware("v2").ljust(512, b"\xff")


def test_verification_reads_the_flash_and_finds_one_wrong_bit_in_content_or_padding() -> None:
    for place in (0, 299, 300, 511):
        flash = memory_flash(GEOMETRY)
        slots = open_slots(flash)
        slots.keep(Started(1, Image(manifest("v1"), "KA" + "0" * 32)))
        content = bytearray(firmware("v1").ljust(512, b"\xff"))
        content[place] ^= 0x10
        slots.program(0, 8, bytes(content))
        assert not slots.verify(LAYERS)
        slots.program(0, 8, firmware("v1"))
        assert slots.verify(LAYERS)


def test_an_external_layer_lies_behind_the_internal_flash() -> None:
    slots = open_slots(memory_flash(GEOMETRY))
    slots.keep(Started(1, Image(manifest("v1"), "KA" + "0" * 32)))
    slots.program(512 // 64, 1, b"\x01" * 64)
    layer = FlashLayer("0" * 64, 64, "0" * 64, "external", 0, 64)
    assert slots.read(0, layer) == b"\x01" * 64


def test_an_empty_layer_is_its_region_erased() -> None:
    import hashlib

    slots = open_slots(memory_flash(GEOMETRY))
    slots.keep(Started(1, Image(manifest("v1"), "KA" + "0" * 32)))
    blank = hashlib.sha256(b"\xff" * 64).hexdigest()
    assert slots.verify([FlashLayer(hashlib.sha256().hexdigest(), 0, blank, "internal", 0, 64)])


def test_a_program_never_leaves_its_slot() -> None:
    slots = open_slots(memory_flash(GEOMETRY))
    with pytest.raises(FlashFault, match="leaves its slot"):
        slots.program(GEOMETRY.slot_bytes // 64, 1, b"")


def test_a_record_of_another_version_is_a_clear_fault() -> None:
    flash = memory_flash(GEOMETRY)
    slots = open_slots(flash)
    slots._journal.append(b"\x91\x63", lambda: b"")  # noqa: SLF001  (a record number from the future)
    with pytest.raises(FlashFault, match="another version"):
        open_slots(flash)


def test_a_flash_of_another_geometry_is_refused() -> None:
    with pytest.raises(ValueError, match="geometry"):
        Slots(memory_flash(GEOMETRY), Geometry(), SeededEntropy(1))
