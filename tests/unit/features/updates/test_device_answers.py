"""No interleaving of polls, feedback, cancels and retargets breaks the lifecycle of a DDI device's updates.

A stateful test against the services on SQLite in memory. After every step: at most one update is open, a closed state
never changed, numbers count from 1 without a gap, the report is an app that the device closed with success, and a device
with nothing open is either at its target or failed towards it.
"""

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.features.fleet import fleet

from fleetvisor.features.devices.model import DeviceChange, DeviceIdentity
from fleetvisor.features.devices.offers import Offers
from fleetvisor.features.updates.device_answers import DeviceAnswers
from fleetvisor.ground.errors import Gone, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import PageRequest
from fleetvisor.protocol.lifecycle import DeviceAnswer, DeviceProtocol, State, is_open


class Conversation(RuleBasedStateMachine):
    """One device, three apps, an operator, and a clock."""

    @initialize()
    def begin(self):
        self.loop = asyncio.new_event_loop()
        self.fleet = self.run(fleet())
        self.sid = self.run(self.fleet.device())
        self.who = (self.fleet.account, self.sid)
        self.apps = [self.run(self.fleet.app(letter)) for letter in "abc"]
        parts = {"db": self.fleet.db, "clock": self.fleet.clock, "limits": Limits(), "bus": self.fleet.bus}
        self.answers, self.offers = DeviceAnswers(**parts), Offers(**parts)
        self.closed = {}
        self.succeeded = {None}

    def run(self, work):
        return self.loop.run_until_complete(work)

    def teardown(self):
        if hasattr(self, "fleet"):
            self.run(self.fleet.db.close())
            self.loop.close()

    @rule()
    def poll(self):
        who = DeviceIdentity(self.sid, self.fleet.account)
        offered = self.run(self.offers.get(who, DeviceProtocol.DDI)).update
        updates = self.updates()
        assert (offered and offered.number) == (updates[-1].number if updates and is_open(updates[-1].state) else None)

    @rule(app=st.sampled_from([0, 1, 2]), mode=st.sampled_from(["forced", "skip"]), confirm=st.booleans())
    def target(self, app, mode, confirm):
        change = DeviceChange(target_app=self.apps[app].app_sid, mode=mode, confirm=confirm)
        self.run(self.fleet.devices.update(*self.who, change))

    @rule()
    def clear(self):
        self.run(self.fleet.devices.update(*self.who, DeviceChange(target_app=None)))

    @rule()
    def cancel_update(self):
        self.run(self.fleet.devices.update(*self.who, DeviceChange(cancel_update=True)))

    @rule(answer=st.sampled_from(DeviceAnswer))
    def feedback(self, answer):
        taken = self.say(lambda number: self.answers.feedback(*self.who, number, answer=answer, lines=["a line"]))
        if taken is not None and answer is DeviceAnswer.FINISHED:  # also late: it says what runs
            self.succeeded.add(self.updates()[taken - 1].app_sid)

    @rule(answer=st.sampled_from(DeviceAnswer))
    def answer_cancel(self, answer):
        self.say(lambda n: self.answers.answer_cancel(*self.who, n, answer=answer, lines=[]))

    @rule(confirmed=st.booleans())
    def confirm(self, confirmed):
        self.say(lambda n: self.answers.confirm(*self.who, n, confirmed=confirmed, lines=["no"]))

    @rule(seconds=st.sampled_from([1, 599, 601, 3601]))
    def wait(self, seconds):
        self.fleet.clock.pass_s(seconds)
        self.run(self.fleet.updates.expire())

    def updates(self):
        """Give all updates, the first first."""
        return list(reversed(self.run(self.fleet.updates.list(*self.who, PageRequest(1000))).items))

    def say(self, verb):
        for number in range(1, len(self.updates()) + 2):
            try:
                self.run(verb(number))
            except (Gone, NotFound):
                continue
            return number
        return None

    @invariant()
    def lifecycle_holds(self):
        if not hasattr(self, "fleet"):
            return
        updates = self.updates()
        assert [update.number for update in updates] == list(range(1, len(updates) + 1))
        assert sum(is_open(update.state) for update in updates) <= 1
        assert all(not is_open(update.state) for update in updates[:-1])
        for update in updates:
            if not is_open(update.state):
                assert self.closed.setdefault(update.number, update.state) == update.state
            if update.state == State.SUCCEEDED:
                self.succeeded.add(update.app_sid)
        device = self.run(self.fleet.get(self.sid))
        assert device.reported_sid in self.succeeded
        if device.update_status == "pending":
            assert updates
            assert is_open(updates[-1].state)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
