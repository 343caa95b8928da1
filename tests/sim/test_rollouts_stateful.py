"""The counts of rollouts equal their rows after every step, whatever the steps are: hypothesis chooses and shrinks them.

One node, no weather and no deaths, so that what hypothesis finds is short; ``test_rollouts`` has the storms.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleetvisor.db.sqlite import memory
from fleetvisor.pki.seal import KEY_BYTES
from fleetvisor.sim.loop import SeededEntropy, VirtualClock, VirtualLoop
from fleetvisor.sim.network import Link, Network
from fleetvisor.sim.operator import Operator, Refused
from fleetvisor.sim.puppet import DdiPuppet, Habits, NativePuppet, Puppet
from fleetvisor.sim.rollout_checks import Ledger
from fleetvisor.sim.world import make_server

DEVICES = 8
APPS = ("v1", "v2", "v3")


class Rollouts(RuleBasedStateMachine):
    """A server on virtual time, eight devices of both protocols, and whatever may be done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.folder = TemporaryDirectory(prefix="fleetvisor-sim-")
        self.clock = VirtualClock()
        self.db = memory()
        self.ledger = Ledger(self.db)
        self.puppets: list[Puppet] = []
        self.apps: list[str] = []
        self.rollouts: list[str] = []

    def run_now(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def call(self, method: str, path: str, **form: str) -> Any:
        """Make a request; what is refused for a good reason is ``None``."""
        try:
            return self.run_now(self.operator.call(method, path, form or None))
        except Refused as refusal:
            assert refusal.status in {400, 404, 409}, refusal
            return None

    @initialize()
    def begin(self) -> None:
        self.run_now(self._begin())

    async def _begin(self) -> None:
        entropy = SeededEntropy("stateful")
        self.server = make_server(self.db, Path(self.folder.name), self.clock, entropy, entropy.token(KEY_BYTES))
        account = await self.server.accounts.ensure_first()
        network = Network(self.server.app, self.clock)
        self.operator = Operator(network, account.account_sid, account.auth_token, entropy)
        self.apps = [(await self.operator.upload(name)).sid for name in APPS]
        for number in range(DEVICES):
            sid, token = await self.operator.register(f"d{number}")
            own = SeededEntropy("stateful", number)
            way = Link(network, token, own)
            self.puppets.append(DdiPuppet(sid, way, own, token) if number % 3 == 2 else NativePuppet(sid, way, own))

    @rule(
        app=st.sampled_from(range(len(APPS))),
        waves=st.sampled_from(["100%", "1,50%,100%", "30%,60%"]),
        limit=st.sampled_from(["1%", "40%"]),
        unproven=st.sampled_from(["hold", "stop", "release"]),
        most=st.sampled_from(["0", "2"]),
        soak=st.sampled_from(["0", "60"]),
    )
    def release(self, app: int, waves: str, limit: str, unproven: str, most: str, soak: str) -> None:
        form = {"Waves": waves, "Limit": limit, "OnUnproven": unproven, "MaxConcurrent": most, "Soak": soak}
        self._start(App=self.apps[app], Selector="*", MinimumSample="1", SilentAfter="120", OfflineAfter="600", **form)

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.rollouts))
        self._start(Kind="rollback", RollbackOf=chosen, Soak="0", OnUnproven="release")

    def _start(self, **form: str) -> None:
        made = self.call("POST", "/v1/Rollouts", **form)
        if made is not None:
            self.rollouts.append(made["sid"])
            self.call("POST", f"/v1/Rollouts/{made['sid']}", Action="start")

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data(), action=st.sampled_from(["pause", "resume", "abort", "retry", "release"]))
    def act(self, data: st.DataObject, action: str) -> None:
        self.call("POST", f"/v1/Rollouts/{data.draw(st.sampled_from(self.rollouts))}", Action=action)

    @precondition(lambda self: self.rollouts)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        self.call("DELETE", f"/v1/Rollouts/{data.draw(st.sampled_from(self.rollouts))}")

    @rule(place=st.integers(0, DEVICES - 1), app=st.sampled_from(range(len(APPS))))
    def target(self, place: int, app: int) -> None:
        self.call("POST", f"/v1/Devices/{self.puppets[place].sid}", TargetApp=self.apps[app])

    @rule(place=st.integers(0, DEVICES - 1), form=st.sampled_from(["cancel", "clear", "disable", "enable", "remove"]))
    def change(self, place: int, form: str) -> None:
        path = f"/v1/Devices/{self.puppets[place].sid}"
        match form:
            case "cancel":
                self.call("POST", path, CancelUpdate="true")
            case "clear":
                self.call("POST", path, TargetApp="")
            case "remove":
                self.call("DELETE", path)
            case _:
                self.call("POST", path, Access="disabled" if form == "disable" else "active")

    @rule(
        place=st.integers(0, DEVICES - 1),
        fails=st.booleans(),
        dawdles=st.booleans(),
        reverts=st.booleans(),
    )
    def take_a_turn(self, place: int, fails: bool, dawdles: bool, reverts: bool) -> None:
        puppet = self.puppets[place]
        puppet.habits = Habits(float(fails), float(dawdles), 0.0, float(reverts))
        self.run_now(puppet.turn())

    @rule(seconds=st.sampled_from([1, 61, 700, 4000]))
    def let_time_pass(self, seconds: int) -> None:
        self.run_now(self.clock.sleep(seconds))
        self.run_now(self.server.updates.expire())

    @rule()
    def tick(self) -> None:
        self.run_now(self.server.rollouts.tick())

    @invariant()
    def counts_are_rows_and_every_other_promise_holds(self) -> None:
        if self.puppets:
            self.run_now(self._look())

    async def _look(self) -> None:
        await self.ledger.look(self.clock.now())

    def teardown(self) -> None:
        self.run_now(self.db.close())
        self.loop.close()
        self.folder.cleanup()


Rollouts.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRollouts = Rollouts.TestCase
