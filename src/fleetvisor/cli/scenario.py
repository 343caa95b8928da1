"""``fleetvisor demo --scenario bad-release``: a release that a quarter of a fleet cannot run, stopped and taken back.

The fleet gets its first version by a rollout, then the second one in waves under a guard. The guard must stop it while
few devices are touched; what it decided is shown; a rollback must leave every device well on the first version.
Deliberately judges by nothing but the REST API; the swarm alone knows which devices are bad.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from fleetvisor.cli.options import Failure
from fleetvisor.cli.rollout_view import counted
from fleetvisor.cli.scenario_view import Board, board
from fleetvisor.cli.stage import Stage, curl_line, swarm
from fleetvisor.client.explanations import Explanations
from fleetvisor.client.resources import App
from fleetvisor.client.rollouts import EVERYTHING, Rollout, RolloutDevice, Rollouts, Wanted
from fleetvisor.protocol.guard_settings import Value

_LOOK_S: Final = 0.25
_DRAFTS_MAX: Final = 20
_UNTOUCHED: Final = frozenset({"left", "skipped", "unchanged"})


@dataclass(frozen=True, slots=True)
class BadRelease:
    """The numbers of the story. ``touched_max``: the share of the fleet that the bad release may have come to.

    ``tested_max``: the share to which the waves that are meant to find out may come, by the plan.
    """

    devices: int = 1000
    fail_rate: float = 0.25
    waves: str = "1%,4%,20%,100%"
    testing_waves: int = 2
    limit: str = "2%"
    touched_max: float = 0.05
    soak_s: int = 2
    silent_s: int = 30
    setup_s: float = 120.0
    release_s: float = 60.0
    rollback_s: float = 60.0
    seed: int = 1


def bad_release(stage: Stage, story: BadRelease | None = None) -> str:
    """Tell the story; say that it ended well. Raises ``Failure`` when it does not."""
    tale = _Tale(stage, story or BadRelease())
    tale.prepare()
    bad = tale.release()
    touched = tale.explain(bad)
    back = tale.take_back(bad)
    return tale.conclude(bad, back, touched)


class _Tale:
    """The story while it is told."""

    def __init__(self, stage: Stage, story: BadRelease) -> None:
        self._stage = stage
        self._story = story
        self._say = stage.out.note
        self._rollouts = Rollouts(stage.http)
        self._v1, self._v2 = stage.apps
        self._began_s = time.monotonic()

    def prepare(self) -> None:
        """Register the fleet, switch it on, and bring it to the first version."""
        from fleetvisor.sim.faults import Faults

        stage, story = self._stage, self._story
        self._say(f"Registering {story.devices:,} devices …")
        fleet: list[tuple[str, str]] = []
        with stage.out.counter("Registering devices", story.devices) as progress:
            for number in range(1, story.devices + 1):
                made = stage.client.create_device(f"demo-{number:04}")
                fleet.append((made.sid, made.device_token or ""))
                progress(number)
        faults = Faults(fail=story.fail_rate, seed=story.seed, manifest=_manifest(self._v2))
        stage.stack.enter_context(swarm(fleet, stage.server, faults=faults, ramp_s=story.devices / 200))
        self._say(f"They are registered after {self._spent_s:.0f} s. Rolling out {self._v1.name} to all of them …")
        wanted = self._wanted("first", waves="100%", soak=0, limit="2%")
        first = self._run(self._rollouts.create(self._v1.sid, EVERYTHING, wanted), story.setup_s, "completed")
        self._demand_all_run_first()
        if first.counts.get("succeeded") != story.devices:
            raise Failure(f"Not every device took {self._v1.name}: {first.counts}.")

    def release(self) -> Rollout:
        """Release the second version in waves; return the rollout once its guard has stopped it."""
        story = self._story
        self._say(
            f"All {story.devices:,} devices run {self._v1.name} after {self._spent_s:.0f} s. Now {self._v2.name}, which"
            f" fails its self-test on {story.fail_rate:.0%} of them:\n  Waves={story.waves} Limit={story.limit}"
            f" OnUnproven=stop Soak={story.soak_s} SilentAfter={story.silent_s}"
        )
        draft = self._draft_release()
        return self._watch(self._rollouts.act(draft.sid, "start"), story.release_s, "stopped")

    def explain(self, bad: Rollout) -> int:
        """Say why the guard stopped it and what it came to; return how many devices that are."""
        story = self._story
        decision = next(self._rollouts.decisions(bad.sid))
        members = list(self._rollouts.devices(bad.sid))
        touched = sum(member.state not in _UNTOUCHED for member in members)
        self._say(f"\nStopped in wave {decision.wave} ({decision.verdict}, {decision.code}):\n  {decision.sentence}")
        for wave in bad.waves:
            self._say(f"  wave {wave.position}, up to {wave.size:>4}: {counted(wave.counts)}")
        self._say(f"  {touched} of {story.devices:,} devices were touched: {touched / story.devices:.1%}.")
        self._demand_no_other_is_touched(bad, members, touched)
        for sentence in self._one_failed(bad, members):
            self._say(f"  {sentence}")
        if touched >= story.touched_max * story.devices:
            raise Failure(f"{touched} devices were touched, {story.touched_max:.0%} of the fleet or more.")
        return touched

    def take_back(self, bad: Rollout) -> Rollout:
        """Roll back, and demand that every device is well on the first version."""
        self._say(f"\nRolling back {bad.sid} …")
        draft = self._rollouts.create_rollback(bad.sid, self._wanted("take it back", soak=0))
        back = self._run(draft, self._story.rollback_s, "completed")
        self._demand_all_run_first()
        return back

    def conclude(self, bad: Rollout, back: Rollout, touched: int) -> str:
        """Write what came of it, as data; return the sentence to end with."""
        story, out, spent_s = self._story, self._stage.out, self._spent_s
        decision = next(self._rollouts.decisions(bad.sid))
        curl = curl_line(self._stage.server, f"/v1/Rollouts/{bad.sid}")
        good = f"All {story.devices:,} devices are up-to-date on {self._v1.name} again, after {spent_s:.0f} s in all."
        if out.json:
            out.record(
                {
                    "rollout": bad.sid,
                    "rollback": back.sid,
                    "wave": decision.wave,
                    "code": decision.code,
                    "sentence": decision.sentence,
                    "devices": story.devices,
                    "touched": touched,
                    "seconds": round(spent_s, 1),
                    "curl": curl,
                }
            )
        else:
            out.write(f"{good}\n\n  {curl}")
        return "The release was stopped by its guard, explained, and rolled back."

    @property
    def _spent_s(self) -> float:
        return time.monotonic() - self._began_s

    def _wanted(self, name: str, waves: str | None = None, **guard: Value) -> Wanted:
        return Wanted(name=name, waves=waves, guard={"silent_after": self._story.silent_s, **guard})

    def _draft_release(self) -> Rollout:
        """Draft the release. Which devices come first is chance: a plan with too many of them is drawn again."""
        story = self._story
        guard = {"limit": story.limit, "on_unproven": "stop", "soak": story.soak_s}
        wanted = self._wanted("bad release", story.waves, **guard)
        for _ in range(_DRAFTS_MAX):
            draft = self._rollouts.create(self._v2.sid, EVERYTHING, wanted)
            plan = self._rollouts.plan(draft.sid, 1)
            if sum(wave.devices for wave in plan.waves[: story.testing_waves]) < story.touched_max * story.devices:
                said = ", then ".join(f"{wave.devices} ({wave.size})" for wave in plan.waves)
                self._say(f"  By the plan, devices in each wave: {said}.")
                return draft
            self._rollouts.delete(draft.sid)
        raise Failure(f"{_DRAFTS_MAX} drafts had too many devices in their first waves.")

    def _run(self, draft: Rollout, for_s: float, ends: str) -> Rollout:
        return self._watch(self._rollouts.act(draft.sid, "start"), for_s, ends)

    def _watch(self, rollout: Rollout, for_s: float, ends: str) -> Rollout:
        """Show a rollout until it is over; demand that it ends in the state ``ends``, in time."""
        deadline = time.monotonic() + for_s
        with board(self._stage.out) as shown:
            rollout = self._until_over(rollout, deadline, shown)
        if rollout.state != ends or not rollout.is_over:
            why = "" if rollout.decision is None else f" {rollout.decision.sentence}"
            raise Failure(f"The rollout is {rollout.state} and not {ends} after {for_s:.0f} s at most.{why}")
        return rollout

    def _until_over(self, rollout: Rollout, deadline: float, shown: Board) -> Rollout:
        names = {"release": "rollout", "rollback": "rollback"}
        while True:
            rollout = self._rollouts.get(rollout.sid)
            shown.show(rollout, f"{names[rollout.kind]} {rollout.sid}")
            if rollout.is_over or time.monotonic() > deadline:
                return rollout
            time.sleep(_LOOK_S)

    def _one_failed(self, bad: Rollout, members: list[RolloutDevice]) -> list[str]:
        """Check what the server says of a device that failed: it names the failure and the rollout."""
        failed = next((member for member in members if member.state == "failed"), None)
        if failed is None:
            raise Failure("The guard stopped it, but no device failed.")
        device = self._stage.client.device(failed.device_sid)
        found = Explanations(self._stage.http).explain(device.sid)
        reasons = {reason.code: reason for reason in found.reasons}
        tried = reasons.get("tried")
        if "failed" not in reasons or tried is None or tried.about != bad.sid:
            raise Failure(f"{device.name} failed, and is not explained by that: {', '.join(reasons)}.")
        return [f"One that failed, {device.name}, explained:", *(f"  {reason.sentence}" for reason in found.reasons)]

    def _demand_no_other_is_touched(self, bad: Rollout, members: list[RolloutDevice], touched: int) -> None:
        """Demand that the devices themselves bear out what the rollout says it came to."""
        listed = Counter(member.state for member in members)
        counts = {state: count for state, count in bad.counts.items() if count}
        if listed != counts:
            raise Failure(f"The rollout counts {counts}, but its devices are {dict(listed)}.")
        client, sid = self._stage.client, self._v2.sid
        targeted, running = (
            next((group.count for group in client.count_devices(by=by).groups if group.value == sid), 0)
            for by in ("target", "app")
        )
        if max(targeted, running) > touched:
            found = f"{targeted} devices target {self._v2.name} and {running} run it"
            raise Failure(f"{found}, but the rollout came to {touched}.")

    def _demand_all_run_first(self) -> None:
        """Demand that every device is up-to-date and reports the first version."""
        client, count = self._stage.client, self._story.devices
        for by, value in (("status", "up-to-date"), ("app", self._v1.sid)):
            found = client.count_devices(by=by)
            groups = {group.value: group.count for group in found.groups}
            if (found.total, groups) != (count, {value: count}):
                raise Failure(f"Of {count} devices, not all have {by} {value}: {groups}.")


def _manifest(app: App) -> str:
    return app.hash.removeprefix("sha256:")
