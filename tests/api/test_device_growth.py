"""One device that says whatever it likes for ever: its state counts, and the database does not grow with its words."""

import json
from contextlib import asynccontextmanager

from tests.api.test_bounded_writes import size_of
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import open_sqlite

DAY_S = 24 * 3600


class Chatter:
    """A board that speaks both protocols, says something else each time, and never stops."""

    def __init__(self, server, made, apps):
        self.hands, self.made, self.apps = server.hands, made, apps
        self.sequence = 0
        self.said = 0

    async def send(self, method, path, scheme, body, ok=(200,)):
        headers = {"authorization": f"{scheme} {self.made['device_token']}", "content-type": "application/json"}
        reply = await self.hands.http.request(method, BASE + path, headers=headers, content=json.dumps(body))
        assert reply.status_code in ok, reply.text
        return reply

    async def report(self, app, **more):
        self.sequence += 1
        body = {"journal": f"{self.said % 3:032x}", "sequence": self.sequence, "running": app, **more}
        await self.send("POST", "/device/v1/report", "Bearer", body)

    async def talk(self, rounds):
        """Run now this and now that, with values that cannot be read, with attributes and with lines of text."""
        ddi = f"/DEFAULT/controller/v1/{self.made['sid']}"
        for number in range(self.said, self.said + rounds):
            self.said += 1
            odd = {"boot_count": "x"} if number % 2 else {"wake_reason": []}
            update = (await self.hands.get("/v1/Devices/board/Updates"))["updates"][0]["number"]
            running = {"app": self.apps[number % len(self.apps)]["sid"]}
            await self.report(running, update={"number": update, "state": "downloading", "error_code": "?"}, **odd)
            data = {f"{number}-{place}": "ü" * 512 for place in range(5)}
            await self.send("PUT", f"{ddi}/configData", "TargetToken", {"mode": "merge", "data": data})
            lines = [f"{number} {place} " + "ü" * 900 for place in range(8)]
            body = {"status": {"execution": "proceeding", "details": lines}}
            await self.send("POST", f"{ddi}/deploymentBase/{update}/feedback", "TargetToken", body, ok=(200, 410))


@asynccontextmanager
async def a_chatter(db, tmp_path, **bounds):
    async with serving(db, tmp_path, device_writes_per_s=0, **bounds) as server:
        made = await server.hands.device("board")
        apps = [await server.hands.app(f"v{number}") for number in range(3)]
        await server.hands.post("/v1/Devices/board", TargetApp=apps[0]["sid"])
        yield server, Chatter(server, made, apps)


async def test_a_device_that_never_stops_talking_adds_nothing_once_its_budget_is_spent(tmp_path):
    path = tmp_path / "api.db"
    bounds = {"device_events_per_day_max": 100, "update_log_lines_max": 40, "attributes_max": 20}
    async with a_chatter(await open_sqlite(path), tmp_path, **bounds) as (server, board):
        await board.talk(60)
        before = size_of(path)
        for _ in range(4):
            server.clock.advance(3600)
            await board.talk(30)
        assert size_of(path) - before <= 64 << 10
        events = (await server.hands.get("/v1/Events", PageSize=1000, DeviceSid=board.made["sid"]))["events"]
        caused = [event for event in events if event["actor_sid"] == board.made["sid"]]
        assert len(caused) == 101
        assert caused[0]["data"]["merged"] > 150
        await board.report({"app": board.apps[1]["sid"]})  # what it runs counts all the same
        assert (await server.hands.get("/v1/Devices/board"))["app"]["reported_sid"] == board.apps[1]["sid"]


async def test_a_device_beyond_its_budget_still_updates_and_has_events_again_tomorrow(engine, tmp_path):
    async with a_chatter(engine, tmp_path, device_events_per_day_max=3) as (server, board):
        await board.talk(6)
        await board.send("GET", "/device/v1/desired", "Bearer", None)  # it is not asked whether it cancels any more
        await server.hands.post("/v1/Devices/board", TargetApp=board.apps[1]["sid"])
        update = (await server.hands.get("/v1/Devices/board/Updates"))["updates"][0]
        assert update["state"] == "pending"
        await board.report({"app": board.apps[1]["sid"]}, update={"number": update["number"], "state": "succeeded"})
        assert (await server.hands.get("/v1/Devices/board"))["app"]["update_status"] == "up-to-date"
        server.clock.advance(DAY_S)
        await board.report({"app": board.apps[0]["sid"]})
        last = (await server.hands.get("/v1/Events", DeviceSid=board.made["sid"], PageSize=1))["events"][0]
        assert "merged" not in last["data"]
        assert last["actor_sid"] == board.made["sid"]


async def test_the_lines_of_the_newest_updates_are_kept(tmp_path, engine):
    async with a_chatter(engine, tmp_path, update_logs_max=2) as (server, board):
        for number in range(4):
            await server.hands.post("/v1/Devices/board", TargetApp=board.apps[number % 3]["sid"])
            await board.talk(1)
            update = (await server.hands.get("/v1/Devices/board/Updates"))["updates"][0]["number"]
            body = {"status": {"execution": "closed", "result": {"finished": "failure"}, "details": [f"end {number}"]}}
            path = f"/DEFAULT/controller/v1/{board.made['sid']}"
            await board.send("POST", f"{path}/deploymentBase/{update}/feedback", "TargetToken", body, ok=(200, 410))
            await board.send("POST", f"{path}/cancelAction/{update}/feedback", "TargetToken", body, ok=(200, 404, 410))
        updates = (await server.hands.get("/v1/Devices/board/Updates"))["updates"]
        numbers = [update["number"] for update in updates]
        kept = [len((await server.hands.get(f"/v1/Devices/board/Updates/{number}"))["log"]) for number in numbers]
        assert len(kept) > 2
        assert all(kept[:2])
        assert not any(kept[2:])
