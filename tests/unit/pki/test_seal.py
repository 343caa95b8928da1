"""Secrets at rest open only with their key, in their place, and unchanged."""

from hashlib import sha256

import pytest

from fleetvisor.pki.seal import Seal, SealFault, key_id, key_id_of
from fleetvisor.reality import RealEntropy

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
PLACE = b"configs\0AC\0UV\0key"


@pytest.fixture
def seal():
    return Seal([OLD], RealEntropy())


def test_what_is_sealed_opens_in_its_place(seal):
    sealed = seal.seal(b"hunter2", PLACE)
    assert b"hunter2" not in sealed
    assert seal.unseal(sealed, PLACE) == b"hunter2"
    assert seal.unseal(seal.seal(b"", PLACE), PLACE) == b""


def test_the_same_value_is_never_sealed_the_same_way(seal):
    assert len({seal.seal(b"x", PLACE) for _ in range(50)}) == 50


def test_a_sealed_value_does_not_open_in_another_place(seal):
    with pytest.raises(SealFault, match="moved"):
        seal.unseal(seal.seal(b"hunter2", PLACE), PLACE + b"2")


@pytest.mark.parametrize("place", [0, 9, 20, 21, -1])
def test_a_changed_byte_anywhere_is_noticed(seal, place):
    sealed = bytearray(seal.seal(b"hunter2", PLACE))
    sealed[place] ^= 1
    with pytest.raises(SealFault):
        seal.unseal(bytes(sealed), PLACE)


@pytest.mark.parametrize("text", [b"", b"\x01", b"plain text that is long enough to be something", b"\x01" + bytes(20)])
def test_what_was_never_sealed_is_refused(seal, text):
    with pytest.raises(SealFault):
        seal.unseal(text, PLACE)


def test_the_first_key_seals_and_every_key_opens(seal):
    both = Seal([NEW, OLD], RealEntropy())
    assert both.unseal(seal.seal(b"old", PLACE), PLACE) == b"old"
    assert key_id_of(both.seal(b"new", PLACE)) == both.active_id == key_id(NEW)
    assert both.ids == {key_id(NEW), key_id(OLD)}
    with pytest.raises(SealFault, match=f"{key_id(NEW)} is missing"):
        seal.unseal(both.seal(b"new", PLACE), PLACE)


def test_the_id_of_a_key_tells_nothing_of_other_uses_of_its_hash():
    assert key_id(OLD) != sha256(OLD).hexdigest()[:16]
    assert len(key_id(OLD)) == 16


def test_key_files_are_read_in_order_and_a_bad_one_is_named(tmp_path):
    good, short = tmp_path / "seal-2.key", tmp_path / "seal-1.key"
    good.write_bytes(NEW)
    short.write_bytes(OLD[:31])
    assert Seal.load([good], RealEntropy()).active_id == key_id(NEW)
    with pytest.raises(SealFault, match=r"seal-1\.key has 31 bytes"):
        Seal.load([good, short], RealEntropy())
    with pytest.raises(SealFault, match=r"absent\.key cannot be read"):
        Seal.load([tmp_path / "absent.key"], RealEntropy())
    with pytest.raises(SealFault):
        Seal.load([], RealEntropy())
