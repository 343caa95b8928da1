"""The plan says of each device what the rollout then does with it, and Explain said the same before it came.

Small generated worlds, each from its seed: devices that differ in all that a rollout looks at, a release, what happens
to the fleet meanwhile, and the rollback of it.
"""

import random

import pytest
from tests.api.rollout_world import Board, Fleet
from tests.api.world import FIRMWARE, serving
from tests.bundles import simple_bundle

from fleetvisor.db.sqlite import memory

_FAILED = """INSERT INTO app_failures (device_sid, app_sid, account_sid, failures, date_failed)
    VALUES (:device, :app, :account, 3, 1) ON CONFLICT (device_sid, app_sid) DO NOTHING"""


async def uploaded(hands, name, **form):
    files = {"File": ("x.zip", simple_bundle(FIRMWARE + name.encode()))}
    return (await hands.call("POST", "/v1/Apps", ok=201, data={"UniqueName": name, **form}, files=files)).json


class Small:
    """A small fleet, and the dice that shape it."""

    def __init__(self, server, seed):
        self.server, self.hands = server, server.hands
        self.dice = random.Random(seed)

    async def make(self):
        dice, hands = self.dice, self.hands
        classes = dice.choice([{}, {"HardwareClass": "a"}])
        self.v1, self.v2 = await uploaded(hands, "v1"), await uploaded(hands, "v2", **classes)
        boards = []
        for number in range(dice.randint(3, 9)):
            device_class = dice.choice([{}, {"HardwareClass": "a"}, {"HardwareClass": "b"}])
            made = await hands.device(f"d{number}", **device_class)
            runs = dice.choice([self.v1, self.v1, self.v1, self.v2, None])
            running = {"app": None, "manifest": "0" * 64}
            if runs is not None:
                running = {"app": runs["sid"], "manifest": runs["hash"][7:]}
            board = Board(self.server, made["sid"], made["device_token"], running)
            if dice.random() < 0.9:
                await board.report()
            boards.append(board)
        self.fleet = Fleet(self.server, self.v1, self.v2, boards)
        await self.stir()

    async def stir(self):
        """Let things happen to some devices."""
        for sid in self.fleet.boards:
            match self.dice.randint(0, 9):
                case 0 | 1:
                    await self.change(sid, Access=self.dice.choice(["disabled", "active"]))
                case 2:
                    await self.change(sid, TargetApp=self.dice.choice([self.v1, self.v2])["sid"])
                case 3:
                    await self.fail(sid, self.dice.choice([self.v1, self.v2])["sid"])
                case 4:
                    await self.change(sid, HardwareClass=self.dice.choice(["a", "b"]))

    async def change(self, sid, **form):
        """Change a device, unless its hardware and its target do not go together."""
        reply = await self.hands.call("POST", f"/v1/Devices/{sid}", data=form)
        assert reply.status in {200, 409}, reply

    async def fail(self, sid, app_sid):
        keys = {"device": sid, "app": app_sid, "account": self.hands.auth[0]}

        async def body(tx):
            await tx.run(_FAILED, keys)

        await self.server.world.db.write(body)

    async def planned(self, rollout):
        plan = (await self.hands.get(f"/v1/Rollouts/{rollout['sid']}/Plan", Sample=100)).json
        found = {sid: "take" for wave in plan["waves"] for sid in wave["sample"]}
        return found | {sid: group["reason"] for group in plan["left_out"] for sid in group["sample"]}

    async def explained(self, rollout, sids):
        found = {}
        for sid in sids:
            reasons = (await self.hands.get(f"/v1/Devices/{sid}/Explain"))["reasons"]
            about = [reason for reason in reasons if reason["about"] == rollout["sid"]]
            match [reason["code"] for reason in about if reason["code"] != "target_rollout"]:
                case ["left"]:
                    found[sid] = "left"
                case ["hardware"]:
                    found[sid] = "hardware"
                case ["left_out"]:
                    found[sid] = about[-1]["data"]["reason"]
                case ["rollout_waits"] | ["late"]:
                    found[sid] = "take"
                case []:
                    pass
                case codes:
                    raise AssertionError(codes)
        return found

    async def done(self, rollout):
        rows = await self.fleet.members(rollout)
        names = {"skipped": None, "left": "left"}
        return {row["device_sid"]: names.get(row["state"], "take") or row["reason"] for row in rows}

    async def compare(self, **form):
        """Draft a rollout, ask for its plan, start it, ask Explain, and let it come to the devices; return it."""
        made = (await self.hands.post("/v1/Rollouts", ok=201, Soak=0, MinimumSample=1, Waves="100%", **form)).json
        before = await self.planned(made)
        await self.fleet.act(made, "start")
        if self.dice.random() < 0.5:
            assert await self.planned(made) == before
            self.server.clock.advance(1)
            await self.stir()
        planned, explained = await self.planned(made), await self.explained(made, self.fleet.boards)
        shown = await self.fleet.tick(made)
        offered = await self.done(made)
        assert planned == offered
        assert explained == offered
        if shown["date_ended"] is None:
            await self.compare_left_out(made, offered)
        return made

    async def compare_left_out(self, rollout, offered):
        """What was left out is judged anew: Explain says of it what the rollout does when it looks again."""
        self.server.clock.advance(1)
        await self.stir()
        explained = await self.explained(rollout, [sid for sid, said in offered.items() if said != "take"])
        self.server.clock.advance(3600)
        shown = await self.fleet.tick(rollout)
        again = await self.done(rollout)
        if shown["date_ended"] is not None:  # it ended before it looked again
            return
        assert explained == {sid: again[sid] for sid in explained}


@pytest.mark.parametrize("seed", range(40))
async def test_plan_offer_and_explain_agree(seed, tmp_path):
    async with serving(memory(), tmp_path) as server:
        small = Small(server, seed)
        await small.make()
        server.clock.advance(1)
        release = await small.compare(App="v2", Selector="*")
        for board in small.fleet.boards.values():
            if (await small.fleet.device(board.sid))["access"] == "active" and small.dice.random() < 0.8:
                await board.follow(small.dice.choice(["succeeded", "succeeded", "succeeded", "failed"]))
        server.clock.advance(1)
        shown = await small.fleet.tick(release)
        if shown["date_ended"] is None:
            await small.fleet.act(release, "abort")
            await small.fleet.tick(release)
        await small.stir()
        server.clock.advance(1)
        await small.compare(Kind="rollback", RollbackOf=release["sid"])


async def test_a_rollback_says_nothing_of_devices_that_it_will_never_touch(tmp_path):
    """One ran the app already, one was disabled and is enabled again: the release changed neither's target."""
    async with serving(memory(), tmp_path) as server:
        fleet = await Fleet.make(server, 3)
        ran, disabled, changed = fleet.boards.values()
        ran.running = {"app": fleet.v2["sid"], "manifest": fleet.v2["hash"][7:]}
        await ran.report()
        await server.hands.post(f"/v1/Devices/{disabled.sid}", Access="disabled")
        release = await fleet.start(Waves="100%")
        await changed.follow()
        assert (await fleet.tick(release))["state"] == "completed"
        await server.hands.post(f"/v1/Devices/{disabled.sid}", Access="active")
        back = (await server.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=release["sid"])).json
        await fleet.act(back, "start")
        for board, codes in ((ran, set()), (disabled, set()), (changed, {"rollout_waits"})):
            reasons = (await server.hands.get(f"/v1/Devices/{board.sid}/Explain"))["reasons"]
            assert {reason["code"] for reason in reasons if reason["about"] == back["sid"]} == codes
