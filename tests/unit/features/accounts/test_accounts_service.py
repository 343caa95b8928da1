"""Accounts and API keys, through the service and a database in memory."""

import re

import pytest
from tests.unit.features.apps.interleave import PausingDatabase, Run
from tests.unit.features.stage import seal_of, stage

from fleetvisor.features.accounts import service as accounts_service
from fleetvisor.features.accounts.model import Caller, WantedKey
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.ground.errors import Conflict, Invalid, NotFound, Unauthenticated
from fleetvisor.ground.pages import PageRequest
from fleetvisor.pki import identity
from fleetvisor.pki.seal import SealFault
from fleetvisor.sim.loop import SeededEntropy


def accounts_of(at, *keys, seed="node", db=None):
    """Give another node's service on the same database, with these sealing keys."""
    return Accounts(
        db=db or at.db, clock=at.clock, entropy=SeededEntropy(seed), seal=seal_of(*keys), limits=at.limits, bus=at.bus
    )


async def test_the_first_account_is_made_once_and_its_token_can_be_read_again():
    at = await stage()
    again = await at.accounts.ensure_first()
    assert again == await at.accounts.ensure_first()
    assert again.account_sid == at.account
    assert (await at.accounts.authenticate(again.account_sid, again.auth_token)).is_first


async def test_two_nodes_that_start_at_once_agree_on_the_first_account():
    """Step by step in turns: both find none; one insert wins, and the other node takes the winner's."""
    at = await stage()
    await at.run("DELETE FROM accounts")
    nodes = [accounts_of(at, "a", seed=name, db=PausingDatabase(at.db)) for name in ("one", "two")]
    runs = [Run("start", node.ensure_first()) for node in nodes]
    while not all(run.over for run in runs):
        for run in runs:
            if not run.over:
                run.step()
    one, two = (run.result for run in runs)
    assert (one.account_sid, one.auth_token) == (two.account_sid, two.auth_token)
    assert await at.number("SELECT count(*) AS number FROM accounts") == 1
    assert len(await at.events("account.created")) == 3  # two of the stage's own


async def test_an_auth_token_is_what_twilio_clients_expect():
    made = await (await stage()).accounts.create()
    assert re.fullmatch(r"AC[0-9a-f]{32}", made.account_sid)
    assert re.fullmatch(r"[0-9a-f]{32}", made.auth_token)


async def test_another_account_is_not_the_first_and_has_its_event():
    at = await stage()
    made = await at.accounts.create()
    caller = await at.accounts.authenticate(made.account_sid, made.auth_token)
    assert (caller.account_sid, caller.is_first, caller.key_sid) == (made.account_sid, False, None)
    assert (await at.events("account.created"))[-1].account_sid == made.account_sid


async def test_a_key_proves_its_account():
    at = await stage()
    new = await at.accounts.create_key(Caller(at.other, False), WantedKey("CI"))
    assert re.fullmatch(r"SK[0-9a-f]{32}", new.key.key_sid)
    assert re.fullmatch(r"[0-9A-Za-z]{32}", new.secret)
    caller = await at.accounts.authenticate(new.key.key_sid, new.secret)
    assert (caller.account_sid, caller.is_first, caller.key_sid) == (at.other, False, new.key.key_sid)


async def test_the_hex_of_a_user_name_may_be_in_upper_case():
    at = await stage()
    first = await at.accounts.ensure_first()
    shouted = first.account_sid[:2] + first.account_sid[2:].upper()
    assert (await at.accounts.authenticate(shouted, first.auth_token)).account_sid == at.account


async def test_whatever_is_wrong_with_a_proof_the_answer_is_the_same():
    at = await stage()
    first = await at.accounts.ensure_first()
    new = await at.accounts.create_key(Caller(at.account, True), WantedKey(""))
    wrong = [
        (first.account_sid, "wrong"),
        (first.account_sid, ""),
        (first.account_sid, new.secret),
        (new.key.key_sid, first.auth_token),
        (at.other, first.auth_token),
        ("AC" + "0" * 32, first.auth_token),
        ("SK" + "0" * 32, new.secret),
        ("UV" + "0" * 32, first.auth_token),
        ("", ""),
        ("nobody\0", "\ud800"),
    ]
    for username, password in wrong:
        with pytest.raises(Unauthenticated) as refusal:
            await at.accounts.authenticate(username, password)
        assert refusal.value.detail == Unauthenticated().detail


@pytest.mark.parametrize("username", ["AC" + "0" * 32, "SK" + "0" * 32, "nonsense"])
async def test_an_unknown_name_costs_what_a_wrong_password_costs(monkeypatch, username):
    """One look-up and two comparisons of hashes in each case: time must not tell which names exist."""
    at = await stage()
    work = []

    async def one(row, sql, params, real=at.db.one):
        work.append("look-up")
        return await real(row, sql, params)

    def same(left, right):
        work.append("comparison")
        return identity.same(left, right)

    monkeypatch.setattr(at.db, "one", one)  # counts the look-ups
    monkeypatch.setattr(accounts_service.rules, "same", same)  # counts the comparisons
    with pytest.raises(Unauthenticated):
        await at.accounts.authenticate(at.account, "wrong")
    known, work = work, []
    with pytest.raises(Unauthenticated):
        await at.accounts.authenticate(username, "wrong")
    assert work == known == ["look-up", "comparison", "comparison"]


async def test_a_removed_key_proves_nothing_any_more():
    at = await stage()
    new = await at.accounts.create_key(Caller(at.account, True), WantedKey(""))
    await at.accounts.delete_key(at.account, new.key.key_sid)
    with pytest.raises(Unauthenticated):
        await at.accounts.authenticate(new.key.key_sid, new.secret)
    with pytest.raises(NotFound):
        await at.accounts.delete_key(at.account, new.key.key_sid)
    assert [event.type for event in await at.events("key.")] == ["key.created", "key.deleted"]


async def test_another_accounts_key_is_not_found():
    at = await stage()
    new = await at.accounts.create_key(Caller(at.account, True), WantedKey("mine"))
    for verb in (at.accounts.get_key, at.accounts.delete_key):
        with pytest.raises(NotFound):
            await verb(at.other, new.key.key_sid)
    assert (await at.accounts.list_keys(at.other, PageRequest())).items == ()
    assert await at.accounts.get_key(at.account, new.key.key_sid) == new.key


async def test_keys_are_paged_newest_first_and_back():
    """Two of the five are made in the same millisecond."""
    at = await stage()
    made = []
    for number in range(5):
        at.clock.advance(number % 2)
        made.append((await at.accounts.create_key(Caller(at.account, True), WantedKey(str(number)))).key)
    expected = sorted(made, key=lambda key: (key.date_created, key.key_sid), reverse=True)
    page = await at.accounts.list_keys(at.account, PageRequest(2))
    walked = list(page.items)
    while page.next:
        page = await at.accounts.list_keys(at.account, PageRequest(2, page.next))
        walked += page.items
    assert walked == expected
    back = list(page.items)
    while page.previous:
        page = await at.accounts.list_keys(at.account, PageRequest(2, page.previous))
        back = [*page.items, *back]
    assert back == expected


async def test_an_account_has_a_bounded_number_of_keys():
    at = await stage(keys_per_account_max=2)
    for _ in range(2):
        await at.accounts.create_key(Caller(at.account, True), WantedKey(""))
    with pytest.raises(Conflict, match="2 API keys"):
        await at.accounts.create_key(Caller(at.account, True), WantedKey(""))
    await at.accounts.create_key(Caller(at.other, False), WantedKey(""))


async def test_a_bad_name_makes_no_key():
    at = await stage()
    with pytest.raises(Invalid):
        await at.accounts.create_key(Caller(at.account, True), WantedKey("a\nb"))
    assert not await at.events("key.")


async def test_no_token_or_secret_lies_in_the_database():
    at = await stage()
    first, other = await at.accounts.ensure_first(), await at.accounts.create()
    new = await at.accounts.create_key(Caller(at.account, True), WantedKey("CI"))
    text = at.everything()
    assert new.key.key_sid in text
    for secret in (first.auth_token, other.auth_token, new.secret):
        assert secret not in text


async def test_sealing_anew_moves_every_token_to_the_new_key_and_may_be_repeated():
    """Afterwards the old key is needed no more; before, it is."""
    at = await stage()
    first = await at.accounts.ensure_first()
    for _ in range(4):
        await at.accounts.create()
    with pytest.raises(SealFault, match="missing"):
        await accounts_of(at, "b").ensure_first()
    both = accounts_of(at, "b", "a")
    assert await both.reseal(batch=2) == 6
    assert await both.reseal(batch=2) == 0
    assert await accounts_of(at, "b").ensure_first() == first


async def test_a_sealed_token_that_was_moved_to_another_account_does_not_open():
    at = await stage()
    await at.run(
        """UPDATE accounts SET auth_token_sealed =
            (SELECT auth_token_sealed FROM accounts WHERE account_sid = :other) WHERE account_sid = :account""",
        other=at.other,
        account=at.account,
    )
    with pytest.raises(SealFault, match="moved"):
        await at.accounts.ensure_first()
