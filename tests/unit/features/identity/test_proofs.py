"""What proves a device: at the same cost whosever it claims to be, and forgotten when its bell rings."""

import pytest
from tests.jws import Key
from tests.unit.features.fleet import fleet

from fleetvisor.features.devices.model import DeviceChange, DeviceIdentity
from fleetvisor.features.identity.credentials import Credentials
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import jws
from fleetvisor.reality import RealEntropy

AUDIENCE = "https://a"
LIMITS = Limits()


@pytest.fixture
async def at():
    made = await fleet()
    made.proofs = Proofs(db=made.db, clock=made.clock, limits=LIMITS, bus=made.bus, audiences=(AUDIENCE,))
    made.credentials = Credentials(db=made.db, clock=made.clock, entropy=RealEntropy(), limits=LIMITS, bus=made.bus)
    return made


async def with_keys(at, count):
    sid, keys = await at.device(), [Key() for _ in range(count)]
    for key in keys:
        await at.credentials.add_key(DeviceIdentity(sid, at.account), key.public)
    return sid, keys


def now_s(at):
    return at.clock.now() // 1000


async def test_a_wrong_token_costs_the_same_whether_its_device_exists_or_not(at, monkeypatch):
    """One look-up and one verification for a device that is unknown, has no key, one, or is disabled; n for n keys."""
    sids = ["UV" + "0" * 32, await at.device(), (await with_keys(at, 1))[0], (await with_keys(at, 3))[0]]
    disabled, _ = await with_keys(at, 2)
    await at.devices.update(at.account, disabled, DeviceChange(access="disabled"))
    work, real_all, real_verifies = [], at.db.all, jws._verifies

    async def read(*args):
        work.append("look-up")
        return await real_all(*args)

    def verifies(*args):
        work.append("verification")
        return real_verifies(*args)

    monkeypatch.setattr(at.db, "all", read)  # counts the look-ups
    monkeypatch.setattr(jws, "_verifies", verifies)  # counts the costly step, of which the outcome says nothing
    costs = []
    for sid in [*sids, disabled]:
        work.clear()
        with pytest.raises(Unauthenticated) as refused:
            await at.proofs.authenticate(Key().jwt(sid, AUDIENCE, now_s(at)))
        assert refused.value.identity == sid
        costs.append((work.count("look-up"), work.count("verification")))
    assert costs == [(1, 1), (1, 1), (1, 1), (1, 3), (1, 1)]


async def test_a_token_is_verified_once_and_forgotten_at_the_bell(at, monkeypatch):
    sid, (key, *_) = await with_keys(at, 2)
    token, real, count = key.jwt(sid, AUDIENCE, now_s(at)), jws.is_signed_by, []
    # counts the costly step
    monkeypatch.setattr(jws, "is_signed_by", lambda *args, **more: count.append(1) or real(*args, **more))
    for _ in range(3):
        assert (await at.proofs.authenticate(token)).device_sid == sid
    assert len(count) == 1
    at.bus.ring((sid,))
    await at.proofs.authenticate(token)
    assert len(count) == 2


async def test_a_device_that_signs_a_token_for_each_request_takes_bounded_memory(at):
    sid, (key,) = await with_keys(at, 1)
    for number in range(50):
        await at.proofs.authenticate(key.jwt(sid, AUDIENCE, now_s(at), jti=str(number)))
    assert len(at.proofs._proven) <= 8
    at.bus.ring((sid,))
    assert len(at.proofs._proven) == 0
