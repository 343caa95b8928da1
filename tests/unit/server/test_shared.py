"""What all nodes share through the database: made once, sealed, and refused when a key is missing."""

import pytest

from fleetvisor.db.sqlite import memory
from fleetvisor.pki.seal import Seal, key_id
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.server import shared
from fleetvisor.server.files import StartFault

OLD, NEW, OTHER = bytes(32), bytes([1]) * 32, bytes([2]) * 32


def seal(*keys):
    return Seal(keys, RealEntropy())


@pytest.fixture
async def db():
    found = memory()
    yield found
    await found.close()


async def test_the_first_start_names_its_key_and_later_ones_need_it(db):
    assert await shared.named_seal_keys(db) == []
    for _ in range(2):
        await shared.check_seal_keys(db, seal(OLD), RealClock())
    assert await shared.named_seal_keys(db) == [key_id(OLD)]
    with pytest.raises(StartFault, match=key_id(OLD)):
        await shared.check_seal_keys(db, seal(OTHER), RealClock())
    assert await shared.named_seal_keys(db) == [key_id(OLD)]


async def test_a_new_key_in_front_is_named_too(db):
    await shared.check_seal_keys(db, seal(OLD), RealClock())
    await shared.check_seal_keys(db, seal(NEW, OLD), RealClock())
    assert set(await shared.named_seal_keys(db)) == {key_id(OLD), key_id(NEW)}


async def test_two_nodes_have_the_same_ca(db):
    first = await shared.shared_authority(db, seal(OLD), RealClock())
    second = await shared.shared_authority(db, seal(OLD), RealClock())
    assert (first.pem, first.key.private_numbers()) == (second.pem, second.key.private_numbers())


async def test_a_ca_that_was_made_at_the_same_moment_by_another_node_wins(db):
    """The insert of the slower node does nothing; it reads what the faster one kept."""

    class Slow:
        """The database as the slower node sees it: its first look finds nothing."""

        def __init__(self):
            self.looked = False

        async def one(self, *args):
            found = await db.one(*args)
            if self.looked:
                return found
            self.looked = True
            await shared.shared_authority(db, seal(OLD), RealClock())
            return None

        async def write(self, body):
            return await db.write(body)

    slower = await shared.shared_authority(Slow(), seal(OLD), RealClock())
    assert slower.pem == (await shared.shared_authority(db, seal(OLD), RealClock())).pem


async def test_the_ca_is_sealed_in_the_database_and_moves_to_a_new_key(db):
    made = await shared.shared_authority(db, seal(OLD), RealClock())
    assert await shared.reseal_authority(db, seal(OLD)) == 0
    with pytest.raises(StartFault, match="does not open"):
        await shared.shared_authority(db, seal(OTHER), RealClock())
    assert await shared.reseal_authority(db, seal(NEW, OLD)) == 1
    assert await shared.reseal_authority(db, seal(NEW, OLD)) == 0
    assert (await shared.shared_authority(db, seal(NEW), RealClock())).pem == made.pem


async def test_there_may_be_no_ca_to_seal_anew(db):
    assert await shared.reseal_authority(db, seal(NEW)) == 0


class _At(RealClock):
    """A clock that stands at a time of its own."""

    def __init__(self, now):
        self._now = now

    def now(self):
        return self._now


@pytest.mark.parametrize(("made", "why"), [(0, "ended on 1989"), (4_000_000_000_000, "begins on 2096")])
async def test_a_shared_ca_that_is_not_valid_now_is_refused_and_made_anew_once_when_told(db, made, why):
    old = await shared.shared_authority(db, seal(OLD), _At(made))
    with pytest.raises(StartFault, match=rf"{why}.*--new-ca"):
        await shared.shared_authority(db, seal(OLD), RealClock())
    new = await shared.shared_authority(db, seal(OLD), RealClock(), anew=True)
    assert new.pem != old.pem
    for anew in (False, True):
        again = await shared.shared_authority(db, seal(OLD), RealClock(), anew=anew)
        assert again.pem == new.pem, "a CA that is valid is never replaced"
