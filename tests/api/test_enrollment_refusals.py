"""A refused enrolment costs little: no transaction that writes, and nothing at all when it is sent again."""

import pytest
from tests.api.test_identity import enroll, new_token, now_s
from tests.api.world import BASE
from tests.jws import Key

from fleetvisor.protocol import jws


async def refused(server, kind, key):
    """Send an enrolment that is refused; return its parts and the status."""
    made = await new_token(server.hands)
    match kind:
        case "unknown":
            return made["token"][:-1] + ("A" if made["token"][-1] != "A" else "B"), None, 401
        case "unsigned":
            return made["token"], Key().proof(made["token"], BASE, now_s(server)), 401
        case "used up":
            await enroll(server, made["token"], Key())
            return made["token"], None, 403
        case _:
            await server.hands.post(f"/v1/EnrollmentTokens/{made['sid']}", Revoked="true")
            return made["token"], None, 403


KINDS = ("unknown", "unsigned", "used up", "revoked")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_enrolment_is_refused_again_from_memory(server, kind, monkeypatch):
    key = Key()
    token, proof, status = await refused(server, kind, key)
    proof = proof or key.proof(token, BASE, now_s(server))
    first = await enroll(server, token, key, ok=status, proof=proof)
    work, db = [], server.world.db

    def note(name, real):
        def call(*args, **more):
            work.append(name)
            return real(*args, **more)

        return call

    # counts the costly step, of which the outcome says nothing
    monkeypatch.setattr(jws, "_verifies", note("verification", jws._verifies))
    for name in ("one", "all", "write"):
        monkeypatch.setattr(db, name, note(name, getattr(db, name)))  # counts the reads and writes
    for _ in range(3):
        assert await enroll(server, token, key, ok=status, proof=proof) == first
    assert not work


@pytest.mark.parametrize("kind", [*KINDS, "refused"])
async def test_a_refused_enrolment_opens_no_transaction_that_writes(server, hands, kind, monkeypatch):
    key = Key()
    if kind == "refused":
        made = await new_token(hands, MaxUses="2")
        sid = (await enroll(server, made["token"], key))["sid"]
        await hands.delete(f"/v1/Devices/{sid}")
        token, proof, status = made["token"], None, 403
    else:
        token, proof, status = await refused(server, kind, key)

    async def write(_):
        raise AssertionError("a refusal wrote")

    with monkeypatch.context() as patched:
        patched.setattr(server.world.db, "write", write)  # a write would be refused at once
        await enroll(server, token, key, ok=status, proof=proof)
    if kind == "refused":  # an operator frees it, and the same proof is good
        await hands.delete(f"/v1/RefusedKeys/{(await hands.get('/v1/RefusedKeys'))['refused_keys'][0]['fingerprint']}")
        await enroll(server, token, key)
