"""A fleet of devices that speak the native API in a test's hand, for rollouts: each does what the test says."""

import random
from dataclasses import dataclass, field

import msgspec
from tests.api.world import BASE

from fleetvisor.features.rollouts import members, store
from fleetvisor.features.updates.model import STATES
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import PageRequest

_REMOVED = "SELECT wave, state, count FROM rollout_counts WHERE rollout_sid = :sid AND shard = -1"


class Removed(msgspec.Struct):
    """How many devices of a wave were removed in a state."""

    wave: int
    state: str
    count: int


@dataclass
class Board:
    """One device: its token, what it runs, and the journal of its reports."""

    server: object
    sid: str
    token: str
    running: dict
    sequence: int = 0
    journal: str = field(default_factory=lambda: f"{random.getrandbits(128):032x}")

    async def desired(self):
        reply = await self.server.hands.http.get(f"{BASE}/device/v1/desired", headers=self._auth())
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def report(self, update=None):
        self.sequence += 1
        body = {
            "journal": self.journal,
            "sequence": self.sequence,
            "running": self.running,
            "update": update,
            "boot_count": 1,
            "wake_reason": 0,
        }
        reply = await self.server.hands.http.post(f"{BASE}/device/v1/report", headers=self._auth(), json=body)
        assert reply.status_code < 300, reply.text

    async def follow(self, fate="succeeded"):
        """Do what is desired: succeed, fail, or get only as far as a state. Tell whether there was anything to do."""
        desired = (await self.desired())["app"]
        if desired is None or desired["update"] is None:
            return False
        if fate == "succeeded":
            self.running = {"app": desired["sid"], "manifest": desired["manifest"]}
        await self.report({"number": desired["update"], "state": fate, "error_code": 7 if fate == "failed" else 0})
        return True

    def _auth(self):
        return {"authorization": f"Bearer {self.token}"}


class Fleet:
    """Boards that run a first app, and the rollouts of a second."""

    def __init__(self, server, v1, v2, boards):
        self.server = server
        self.hands = server.hands
        self.v1, self.v2 = v1, v2
        self.boards = {board.sid: board for board in boards}

    @classmethod
    async def make(cls, server, count, **form):
        """Make ``count`` devices that report the app ``v1``."""
        hands = server.hands
        v1, v2 = await hands.app("v1"), await hands.app("v2")
        boards = []
        for number in range(count):
            made = await hands.device(f"d{number}", **form)
            board = Board(server, made["sid"], made["device_token"], {"app": v1["sid"], "manifest": v1["hash"][7:]})
            await board.report()
            boards.append(board)
        return cls(server, v1, v2, boards)

    async def start(self, **form):
        """Draft a rollout of ``v2`` and start it; give its JSON."""
        wanted = {"App": "v2", "Selector": "*", "Soak": 0, "MinimumSample": 1} | form
        made = (await self.hands.post("/v1/Rollouts", ok=201, **wanted)).json
        await self.act(made, "start")
        return await self.tick(made)

    async def act(self, rollout, action, ok=200, **form):
        return (await self.hands.post(f"/v1/Rollouts/{rollout['sid']}", ok=ok, Action=action, **form)).json

    async def tick(self, rollout):
        """Let the rollouts take their steps, then give this one."""
        await self.server.world.rollouts.tick()
        return await self.get(rollout)

    async def get(self, rollout):
        shown = (await self.hands.get(f"/v1/Rollouts/{rollout['sid']}")).json
        await self.check(shown)
        return shown

    async def check(self, shown):
        """Demand that the counts are those of the rows, and of devices that were removed."""
        account_sid = self.hands.auth[0]
        rollout = await store.find(self.server.world.db, account_sid, shown["sid"])
        everything = PageRequest(100_000)
        rows = (await members.page(self.server.world.db, rollout, None, None, everything, Limits())).items
        counts = {}
        for row in rows:
            counts.setdefault(row.wave, dict.fromkeys(STATES, 0))[row.state] += 1
        for row in await self.server.world.db.all(Removed, _REMOVED, {"sid": shown["sid"]}):
            counts.setdefault(row.wave, dict.fromkeys(STATES, 0))[row.state] += row.count
        for wave in shown["waves"]:
            expected = counts.get(wave["position"], {})
            assert {state: n for state, n in wave["counts"].items() if n} == {s: n for s, n in expected.items() if n}

    async def members(self, rollout, **params):
        pages = await self.hands.walk(f"/v1/Rollouts/{rollout['sid']}/Devices", "rollout_devices", **params)
        return [row for page in pages for row in page]

    async def device(self, sid):
        return (await self.hands.get(f"/v1/Devices/{sid}")).json

    async def run(self, rollout, fate=lambda _sid: "succeeded", rounds=50):
        """Let devices and rollout take turns until nothing moves; give the rollout."""
        for _ in range(rounds):
            moved = False
            for board in self.boards.values():
                moved |= await board.follow(fate(board.sid))
            self.server.clock.advance(1)
            shown = await self.tick(rollout)
            if not moved and (shown["date_ended"] or (shown["waits_for"] or {}).get("code") == "operator"):
                return shown
        raise AssertionError(f"the rollout does not come to rest: {shown}")
