"""A key that is removed while it makes another leaves none behind."""

import pytest
from tests.unit.features.stage import stage

from fleetvisor.features.accounts.model import Caller, WantedKey
from fleetvisor.features.accounts.rules import check_child
from fleetvisor.ground.errors import AccessDenied, Unauthenticated


async def test_a_key_that_is_removed_while_it_makes_another_leaves_none_behind():
    """Its request was let in before the removal, and writes after it."""
    at = await stage()
    new = await at.accounts.create_key(Caller(at.account, True), WantedKey("maker"))
    maker = await at.accounts.authenticate(new.key.key_sid, new.secret)
    await at.accounts.delete_key(at.account, maker.key_sid)
    with pytest.raises(Unauthenticated):
        await at.accounts.create_key(maker, WantedKey("child"))
    assert await at.number("SELECT count(*) AS number FROM keys") == 0


def test_no_key_makes_one_of_a_higher_role():
    maker = Caller("AC", False, "SK", "operator")
    with pytest.raises(AccessDenied):
        check_child(maker, "admin", None, bounded=False)
    assert check_child(maker, "viewer", None, bounded=False) is None
