"""A change that falls between the reading of something and its keeping is seen by the next request.

Each test makes the change at that very moment, through the database that the server was given: after the row was read,
and before who asked for it goes on.
"""

import pytest
from tests.api.test_ddi import Board
from tests.api.test_identity import Newcomer
from tests.api.world import BASE

from fleetvisor.db.sqlite import memory


class Between:
    """A database that lets something happen right after a row was read by a statement with ``mark`` in it."""

    def __init__(self, db):
        self.db = db
        self.mark = None
        self.act = None

    def __getattr__(self, name):
        return getattr(self.db, name)

    def after(self, mark, act):
        self.mark, self.act = mark, act

    async def one(self, row, sql, params):
        found = await self.db.one(row, sql, params)
        if self.act is not None and self.mark in sql:
            act, self.act = self.act, None
            await act()
        return found


@pytest.fixture
async def between():
    return Between(memory())


@pytest.fixture
def engine(between):
    """The database of ``server``."""
    return between


@pytest.fixture
def happened(between):
    """Ask at the end whether the change was made where it should be."""
    yield
    assert between.act is None, "nothing read what the test waits for"


@pytest.fixture
def native(server):
    async def get(device, path, ok=200):
        headers = {"authorization": f"Bearer {device['device_token']}"}
        answer = await server.hands.http.get(f"{BASE}/device/v1/{path}", headers=headers)
        assert answer.status_code == ok, answer.text
        return answer

    return get


pytestmark = pytest.mark.usefixtures("happened")


@pytest.mark.parametrize("change", ["disabled", "removed"])
async def test_a_device_that_is_disabled_while_its_token_is_proven_is_refused_next(between, hands, native, change):
    device = await hands.device()

    async def act():
        if change == "removed":
            await hands.delete(f"/v1/Devices/{device['sid']}")
        else:
            await hands.post(f"/v1/Devices/{device['sid']}", Access="disabled")

    between.after("FROM device_tokens t", act)
    await native(device, "manifests/" + "0" * 64, ok=404)  # it was proven before
    await native(device, "manifests/" + "0" * 64, ok=401)


async def test_an_account_that_is_suspended_while_its_device_is_proven_is_refused_next(between, server, hands, native):
    theirs = await server.stranger()
    device = await theirs.device()

    async def act():
        await hands.post(f"/v1/Accounts/{theirs.auth[0]}", Status="suspended")

    between.after("FROM device_tokens t", act)
    await native(device, "manifests/" + "0" * 64, ok=404)
    await native(device, "manifests/" + "0" * 64, ok=401)


async def test_a_key_that_is_removed_while_it_is_proven_is_refused_next(between, server, hands):
    key = (await hands.post("/v1/Keys", ok=201, Role="viewer")).json
    theirs = server.as_account(key["sid"], key["secret"])

    async def act():
        await hands.delete(f"/v1/Keys/{key['sid']}")

    between.after("FROM keys k", act)
    await theirs.get("/v1/Apps")
    await theirs.get("/v1/Apps", ok=401)


async def test_an_auth_token_that_is_replaced_while_it_is_proven_is_refused_next(between, server, hands):
    stranger = await server.stranger()
    second = (await stranger.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"]
    new = server.as_account(stranger.auth[0], second)
    await new.get("/v1/Apps")

    async def act():
        await new.post("/v1/AuthTokens/Promote")

    between.after("FROM accounts WHERE account_sid", act)
    await stranger.get("/v1/Apps")
    await stranger.get("/v1/Apps", ok=401)


async def test_a_gateway_that_is_closed_while_it_is_asked_is_closed_next(between, server, hands):
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    board = Newcomer(server, token, "press")
    await board.poll()
    await hands.post("/v1/Devices/press", Access="active")

    async def act():
        await hands.delete("/v1/GatewayToken")

    between.after("access, by_gateway FROM devices", act)
    await board.http.get(board.url, headers={"authorization": f"GatewayToken {token}"})
    await board.call("GET", ok=401)


async def test_a_device_that_is_targeted_while_its_answer_is_read_gets_the_new_one_next(between, hands, native):
    device, app = await hands.device(), await hands.app()
    await native(device, "desired")
    await hands.post(f"/v1/Devices/{device['sid']}", RestartApp="true")

    async def act():
        await hands.post(f"/v1/Devices/{device['sid']}", TargetApp=app["sid"])

    between.after("r.politeness_s, r.connection_grace_s", act)
    assert (await native(device, "desired")).json()["app"] is None
    assert (await native(device, "desired")).json()["app"]["sid"] == app["sid"]


async def test_a_ddi_device_that_is_targeted_while_its_poll_is_read_is_offered_it_next(between, server, hands):
    board, app = Board(server, await hands.device()), await hands.app()
    await board.poll()
    await hands.post(f"/v1/Devices/{board.sid}", PollInterval="90")

    async def act():
        await hands.post(f"/v1/Devices/{board.sid}", TargetApp=app["sid"])

    between.after("a.wants_attributes", act)
    assert "deploymentBase" not in await board.links()
    assert "deploymentBase" in await board.links()


async def test_a_device_that_is_renamed_while_it_is_fetched_has_the_new_name_next(between, hands):
    device = await hands.device("old")

    async def act():
        await hands.post(f"/v1/Devices/{device['sid']}", UniqueName="new")

    between.after("WHERE d.account_sid = :account_sid AND d.device_sid", act)
    assert (await hands.get(f"/v1/Devices/{device['sid']}"))["unique_name"] == "old"
    assert (await hands.get(f"/v1/Devices/{device['sid']}"))["unique_name"] == "new"


async def test_a_layer_whose_app_is_removed_while_it_is_looked_for_is_gone_next(between, hands, native):
    device, app = await hands.device(), await hands.app()
    await hands.post(f"/v1/Devices/{device['sid']}", TargetApp=app["sid"])
    digest = (await native(device, "desired")).json()["app"]["layers"][0]["sha256"]
    await hands.post(f"/v1/Devices/{device['sid']}", TargetApp="")

    async def act():
        await hands.delete(f"/v1/Apps/{app['sid']}")

    between.after("FROM app_layers", act)
    await native(device, f"layers/{digest}")
    await native(device, f"layers/{digest}", ok=404)
