"""Configs and secrets, through the service and a database in memory."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.features.stage import seal_of, stage

from fleetvisor.features.configs import store as configs_store
from fleetvisor.features.configs.model import Owner, Store
from fleetvisor.features.configs.service import Configs
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.pages import PageRequest
from fleetvisor.pki.seal import SealFault
from fleetvisor.protocol.native import FetchItem

KINDS = pytest.mark.parametrize("kind", list(Store))
SECRET = "correct horse battery staple"


def configs_of(at, *keys):
    return Configs(db=at.db, clock=at.clock, seal=seal_of(*(keys or ("a",))), limits=at.limits)


async def a_stage(**bounds):
    """Give the stage, the service, and the two owners of one account."""
    at = await stage(**bounds)
    return at, configs_of(at), Owner(at.account), Owner(at.account, await at.add_device(at.account))


async def fetch(configs, owner, *items):
    answer = await configs.fetch(owner.account_sid, owner.device_sid, [FetchItem(*item) for item in items])
    return [(result.result, result.value) for result in answer.items]


@KINDS
async def test_a_key_is_made_read_set_and_removed(kind):
    at, configs, account, device = await a_stage()
    for owner in (account, device):
        made = await configs.create(owner, kind, "k", "one")
        assert await configs.get(owner, kind, "k") == made
        at.clock.advance(5)
        moved = await configs.set(owner, kind, "k", "two")
        assert moved.date_updated == made.date_updated + 5000
        await configs.delete(owner, kind, "k")
        with pytest.raises(NotFound):
            await configs.get(owner, kind, "k")


async def test_a_config_shows_its_value_and_a_secret_never():
    _, configs, account, _ = await a_stage()
    assert (await configs.create(account, Store.CONFIG, "k", "v")).value == "v"
    assert (await configs.set(account, Store.CONFIG, "k", "")).value == ""
    for entry in (
        await configs.create(account, Store.SECRET, "k", SECRET),
        await configs.set(account, Store.SECRET, "k", SECRET),
        await configs.get(account, Store.SECRET, "k"),
        *(await configs.list(account, Store.SECRET, PageRequest())).items,
    ):
        assert entry.value is None


async def test_stores_and_owners_are_name_spaces_of_their_own():
    at, configs, account, device = await a_stage()
    second = Owner(at.account, await at.add_device(at.account))
    places = [(owner, kind) for owner in (account, device, second, Owner(at.other)) for kind in Store]
    for number, (owner, kind) in enumerate(places):
        await configs.create(owner, kind, "k", f"v{number}")
    for owner, kind in places:
        assert len((await configs.list(owner, kind, PageRequest())).items) == 1
    await configs.delete(device, Store.CONFIG, "k")
    assert (await configs.get(second, Store.CONFIG, "k")).value == "v4"
    assert (await configs.get(account, Store.CONFIG, "k")).value == "v0"


@KINDS
async def test_a_key_that_is_there_is_a_conflict_and_keeps_its_value(kind):
    at, configs, _, device = await a_stage()
    await configs.create(device, kind, "k", "first")
    before = at.everything()
    with pytest.raises(Conflict, match="already exists"):
        await configs.create(device, kind, "k", "second")
    assert at.everything() == before


@KINDS
async def test_setting_never_makes_a_key(kind):
    at, configs, account, _ = await a_stage()
    with pytest.raises(NotFound):
        await configs.set(account, kind, "k", "v")
    with pytest.raises(NotFound):
        await configs.delete(account, kind, "k")
    assert not await at.events(kind.value)


async def test_a_device_of_another_account_or_none_is_no_owner():
    at, configs, _, device = await a_stage()
    for stranger in (Owner(at.other, device.device_sid), Owner(at.account, "UV" + "0" * 32)):
        with pytest.raises(NotFound, match="Device"):
            await configs.create(stranger, Store.CONFIG, "k", "v")
    await configs.create(device, Store.CONFIG, "k", "v")
    with pytest.raises(NotFound):
        await configs.get(Owner(at.other, device.device_sid), Store.CONFIG, "k")
    with pytest.raises(NotFound):
        await configs.delete(Owner(at.other, device.device_sid), Store.CONFIG, "k")


@KINDS
async def test_an_owner_has_a_bounded_number_of_each(kind):
    _, configs, account, device = await a_stage(configs_per_owner_max=2)
    for key in "ab":
        await configs.create(device, kind, key, "v")
    with pytest.raises(Conflict, match="2"):
        await configs.create(device, kind, "c", "v")
    await configs.create(account, kind, "c", "v")
    await configs.create(device, Store.SECRET if kind is Store.CONFIG else Store.CONFIG, "c", "v")


@KINDS
@pytest.mark.parametrize(
    ("key", "value"),
    [("", "v"), ("a/b", "v"), ("é", "v"), ("k" * 101, "v"), ("k", "v" * 4097), ("k", "a\0"), ("k", "\ud800")],
)
async def test_a_bad_key_or_value_is_refused_and_not_repeated(kind, key, value):
    at, configs, account, _ = await a_stage()
    with pytest.raises(Invalid) as refusal:
        await configs.create(account, kind, key, value)
    assert len(value) < 2 or value not in refusal.value.detail
    assert not await at.events(kind.value)


async def test_a_bad_value_is_refused_by_set_too():
    _, configs, account, _ = await a_stage()
    await configs.create(account, Store.CONFIG, "k", "v")
    with pytest.raises(Invalid):
        await configs.set(account, Store.CONFIG, "k", "v" * 4097)
    assert (await configs.get(account, Store.CONFIG, "k")).value == "v"


@KINDS
async def test_keys_are_paged_in_ascending_order_and_back(kind):
    _, configs, account, device = await a_stage()
    keys = ["B", "a", "a b", "aa", "b", "~", "0"]
    for key in keys:
        await configs.create(account, kind, key, "v")
        await configs.create(device, kind, key + "!", "v")
    page = await configs.list(account, kind, PageRequest(3))
    walked = [entry.key for entry in page.items]
    while page.next:
        page = await configs.list(account, kind, PageRequest(3, page.next))
        walked += [entry.key for entry in page.items]
    assert walked == sorted(keys)
    back = [entry.key for entry in page.items]
    while page.previous:
        page = await configs.list(account, kind, PageRequest(3, page.previous))
        back = [*(entry.key for entry in page.items), *back]
    assert back == sorted(keys)


async def test_every_change_has_its_event_which_names_the_key_and_never_the_value():
    at, configs, account, device = await a_stage()
    await configs.create(account, Store.SECRET, "k", SECRET)
    await configs.create(device, Store.CONFIG, "k", "shown")
    await configs.set(device, Store.CONFIG, "k", "shown too")
    await configs.delete(account, Store.SECRET, "k")
    seen = [*await at.events("config."), *await at.events("secret.")]
    assert {event.type for event in seen} == {"config.created", "config.updated", "secret.created", "secret.deleted"}
    for event in seen:
        assert msgspec.json.decode(event.data) == {"key": "k"}
        assert event.device_sid == (device.device_sid if event.type.startswith("config") else None)


async def test_a_secret_lies_nowhere_in_the_database():
    at, configs, account, device = await a_stage()
    for owner in (account, device):
        await configs.create(owner, Store.SECRET, "k", SECRET)
    await configs.set(device, Store.SECRET, "k", SECRET)
    text = at.everything()
    assert SECRET not in text
    assert SECRET.encode().hex() not in text


async def test_a_device_fetches_its_own_and_its_accounts_values_in_the_order_it_asked():
    at, configs, account, device = await a_stage()
    other = Owner(at.account, await at.add_device(at.account))
    await configs.create(account, Store.CONFIG, "url", "https://example.com")
    await configs.create(account, Store.SECRET, "url", "shared")
    await configs.create(device, Store.SECRET, "pin", SECRET)
    await configs.create(other, Store.SECRET, "pin", "of the other")
    assert await fetch(
        configs,
        device,
        ("device", "secret", "pin"),
        ("account", "config", "url"),
        ("device", "config", "url"),
        ("account", "secret", "url"),
        ("device", "secret", "no\0such"),
    ) == [
        ("ok", SECRET),
        ("ok", "https://example.com"),
        ("key_not_found", None),
        ("ok", "shared"),
        ("key_not_found", None),
    ]


async def test_a_device_of_another_account_gets_none_of_it():
    at, configs, account, _ = await a_stage()
    await configs.create(account, Store.CONFIG, "k", "v")
    stranger = Owner(at.other, await at.add_device(at.other))
    assert await fetch(configs, stranger, ("account", "config", "k")) == [("key_not_found", None)]


async def test_the_items_of_one_fetch_are_bounded():
    _, configs, _, device = await a_stage(config_fetch_items_max=3)
    item = ("device", "config", "k")
    assert len(await fetch(configs, device, *[item] * 3)) == 3
    for count in (0, 4):
        with pytest.raises(Invalid, match="1 to 3"):
            await fetch(configs, device, *[item] * count)


async def test_a_secret_whose_row_was_copied_to_another_device_does_not_open():
    """Whoever can write the database still cannot hand one device's secret to another."""
    at, configs, account, device = await a_stage()
    thief = Owner(at.account, await at.add_device(at.account))
    await configs.create(device, Store.SECRET, "k", SECRET)
    await configs.create(thief, Store.SECRET, "k", "own")
    await at.run(
        """UPDATE configs SET sealed = (SELECT sealed FROM configs WHERE owner_sid = :of) WHERE owner_sid = :to""",
        of=device.device_sid,
        to=thief.device_sid,
    )
    assert await fetch(configs, thief, ("device", "secret", "k")) == [("server_error", None)]
    assert await fetch(configs, device, ("device", "secret", "k")) == [("ok", SECRET)]


async def test_the_log_line_of_a_secret_that_does_not_open_holds_no_secret(capsys):
    _, configs, _, device = await a_stage()
    await configs.create(device, Store.SECRET, "k", SECRET)
    at_rest = configs_of(await stage(), "other key")
    at_rest._db = configs._db
    assert await fetch(at_rest, device, ("device", "secret", "k")) == [("server_error", None)]
    printed = "".join(capsys.readouterr())
    assert "secret.unopened" in printed
    assert SECRET not in printed


async def test_sealing_anew_moves_every_secret_to_the_new_key_in_chunks_and_may_be_repeated():
    at, configs, account, device = await a_stage()
    stored = {(owner, f"k{number}"): f"{owner.sid}-{number}" for owner in (account, device) for number in range(5)}
    for (owner, key), value in stored.items():
        await configs.create(owner, Store.SECRET, key, value)
        await configs.create(owner, Store.CONFIG, key, "plain")
    both = configs_of(at, "b", "a")
    assert await both.reseal(batch=3) == 10
    assert await both.reseal(batch=3) == 0
    only = configs_of(at, "b")
    for (owner, key), value in stored.items():
        scope = "account" if owner.device_sid is None else "device"
        assert await fetch(only, device, (scope, "secret", key)) == [("ok", value)]


async def test_sealing_anew_without_the_old_key_says_which_is_missing_and_changes_nothing():
    at, configs, account, _ = await a_stage()
    await configs.create(account, Store.SECRET, "k", SECRET)
    before = at.everything()
    with pytest.raises(SealFault, match="missing"):
        await configs_of(at, "b").reseal()
    assert at.everything() == before


async def test_a_value_set_while_it_is_sealed_anew_is_not_lost():
    """The new seal is put only where the old one still is."""
    at, configs, account, device = await a_stage()
    await configs.create(account, Store.SECRET, "k", "old")
    both = configs_of(at, "b", "a")
    (row,) = await configs_store.sealed_page(at.db, ("", ""), 10)
    await both.set(account, Store.SECRET, "k", "new")
    assert not await at.db.write(lambda tx: configs_store.reseal(tx, row, both._reseal(row)))
    assert await fetch(both, device, ("account", "secret", "k")) == [("ok", "new")]


async def test_a_removed_devices_configs_and_secrets_go_and_nobody_elses():
    at, configs, account, device = await a_stage()
    other = Owner(at.account, await at.add_device(at.account))
    for owner in (account, device, other):
        for kind in Store:
            await configs.create(owner, kind, "k", "v")
    await at.db.write(lambda tx: configs_store.delete_of_device(tx, at.other, device.device_sid))
    assert len((await configs.list(device, Store.CONFIG, PageRequest())).items) == 1
    await at.db.write(lambda tx: configs_store.delete_of_device(tx, at.account, device.device_sid))
    for owner, left in ((account, 1), (device, 0), (other, 1)):
        for kind in Store:
            assert len((await configs.list(owner, kind, PageRequest())).items) == left


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
async def test_any_text_comes_back_from_a_secret_as_it_went_in(value):
    _, configs, _, device = await a_stage()
    await configs.create(device, Store.SECRET, "k", value)
    assert await fetch(configs, device, ("device", "secret", "k")) == [("ok", value)]
