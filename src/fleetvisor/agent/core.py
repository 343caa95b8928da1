"""The agent's mind, sans-IO: an event in, a command out, one at a time.

The order of things is the argument (``docs/explanation/agent.md``): download into the inactive slot, verify it as read
back, arm it, reboot into its one trial, self-test, tell the server ``testing``, confirm only when that was taken; else
the next boot reverts. Deliberately no IO, no clock and no flash: the driver gives the time with each event,
and a test is a script of the conversation.
"""

from dataclasses import dataclass

from fleetvisor.agent.commands import (
    AskLeave,
    Boot,
    Checked,
    Command,
    Done,
    Event,
    Failure,
    Fetch,
    Fetched,
    FetchManifest,
    FlashBroken,
    Program,
    Reboot,
    Script,
    SelfTest,
    Unexpected,
    Verify,
    Wait,
)
from fleetvisor.agent.plan import Block, Geometry, Misfit, Plan
from fleetvisor.agent.state import (
    Abandoned,
    Armed,
    Confirmed,
    Download,
    Failed,
    Image,
    Marked,
    Outcome,
    Restarting,
    Started,
    State,
    Told,
)
from fleetvisor.agent.talk import Options, Talk
from fleetvisor.agent.trust import is_downgrade, judge_manifest
from fleetvisor.ground.clock import Entropy
from fleetvisor.protocol.lifecycle import ErrorCode
from fleetvisor.protocol.lifecycle import State as UpdateState
from fleetvisor.protocol.native import Desired, DesiredApp, UpdateReport, flash_layers

_PROGRESS_REPORTS = 8


class _Stopped(Exception):
    """The update under way is no longer what the server wants."""


class _UpdateFailed(Exception):
    """The update under way cannot be finished."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class View:
    """What the agent is at, for whoever watches. ``running`` is a manifest's hash; ``logging``: logs are wanted."""

    phase: str
    running: str | None
    bytes_done: int
    bytes_total: int
    logging: bool


class Core:
    """One run of the agent, from a boot to the next."""

    def __init__(self, state: State, geometry: Geometry, options: Options, entropy: Entropy) -> None:
        """Take the state after the bootloader's ``Booted``."""
        self._talk = Talk(state, options, entropy)
        self._geometry = geometry
        self._options = options
        self._phase = "starting"
        self._bytes = (0, 0)
        self._script = self._run()
        self._fresh = True

    def step(self, event: Event, now_s: float) -> Command:
        """Answer ``event`` (first ``Boot``), at ``now_s`` of a monotonic clock, with the next command."""
        self._talk.now_s = now_s
        if self._fresh != isinstance(event, Boot):
            raise Unexpected(event)
        if self._fresh:
            self._fresh = False
            return next(self._script)
        return self._script.send(event)

    @property
    def state(self) -> State:
        """Return the durable state as this core knows it."""
        return self._talk.state

    @property
    def desired(self) -> Desired | None:
        """Return the desired state that was last fetched in this run."""
        return self._talk.desired

    @property
    def view(self) -> View:
        """Return what the agent is at."""
        image, desired = self._talk.state.running, self._talk.desired
        logging = desired is not None and desired.logging.enabled
        return View(self._phase, None if image is None else image.manifest, *self._bytes, logging)

    def _run(self) -> Script[None]:
        talk = self._talk
        if talk.state.trial is not None:
            yield from self._trial()
        outcome = talk.state.outcome
        if outcome is not None and not outcome.told:
            yield from self._settle(outcome)
        else:
            yield from talk.insist(None)
        while True:
            self._phase, self._bytes = "idle", (0, 0)
            yield from talk.poll()
            while (yield from self._act()):
                pass

    def _act(self) -> Script[bool]:
        """Do what the desired state asks; give whether it changed meanwhile, so that there may be more to do."""
        talk = self._talk
        desired, state = talk.desired, talk.state
        if desired is None:
            return False
        if desired.restart > state.restart_obeyed:
            yield from talk.keep(Restarting(desired.restart))
            yield Reboot("restart")
        if state.download is not None and not _names(desired, state.download):
            yield from talk.keep(Abandoned())
        app, outcome = desired.app, state.outcome
        if app is None or app.update is None:
            return False
        if state.running is not None and state.running.manifest == app.manifest:
            if talk.take_news():
                yield from talk.insist(UpdateReport(number=app.update, state=UpdateState.SUCCEEDED))
            return False
        if outcome is not None and outcome.code and (outcome.number, outcome.manifest) == (app.update, _identity(app)):
            if talk.take_news():
                yield from self._settle(outcome)
            return False
        try:
            yield from self._install(app, app.update)
        except _Stopped:
            return True
        except _UpdateFailed as failure:
            yield from talk.keep(Failed(app.update, _identity(app), failure.code))
            yield from self._settle(Outcome(app.update, _identity(app), failure.code))
        return False

    def _settle(self, outcome: Outcome) -> Script[None]:
        """Tell the server how an update ended, and remember that it knows."""
        failed = outcome.code != ErrorCode.NONE
        self._phase = "failed" if failed else "succeeded"
        state = UpdateState.FAILED if failed else UpdateState.SUCCEEDED
        report = UpdateReport(number=outcome.number, state=state, error_code=outcome.code)
        if (yield from self._talk.insist(report)):
            yield from self._talk.keep(Told())

    def _trial(self) -> Script[None]:
        """Test the app on trial, and confirm it once the server took the report. A reboot reverts it."""
        talk, trial, image = self._talk, self._talk.state.trial, self._talk.state.running
        if trial is None or image is None:
            raise Unexpected("a trial without an app")
        self._phase = "testing"
        event = yield SelfTest(image.manifest)
        if not isinstance(event, Checked):
            raise Unexpected(event)
        if not event.good:
            yield Reboot("self-test failed")
        report = UpdateReport(number=trial.number, state=UpdateState.TESTING)
        if not (yield from talk.insist(report, for_s=self._options.trial_s)):
            yield Reboot("no report in the trial's time")
        yield from talk.keep(Confirmed())

    def _install(self, app: DesiredApp, number: int) -> Script[None]:
        """Bring the inactive slot to ``app`` and reboot into it; raise ``_Stopped`` or ``_UpdateFailed``."""
        talk = self._talk
        talk.take_news()
        if is_downgrade(app, talk.state.security_counter):
            raise _UpdateFailed(ErrorCode.REFUSED_BY_POLICY)
        layers = flash_layers(app)
        if layers is None:
            raise _UpdateFailed(ErrorCode.INCOMPATIBLE_HARDWARE)
        try:
            plan = Plan(layers, self._geometry)
        except Misfit:
            raise _UpdateFailed(ErrorCode.DOES_NOT_FIT) from None
        raw = yield from self._fetch(app, FetchManifest(app.manifest or ""))
        refused = judge_manifest(app, layers, raw, self._geometry)
        if refused is not ErrorCode.NONE:
            raise _UpdateFailed(refused)
        if talk.state.download is None:
            yield from talk.keep(Started(number, Image(_identity(app), app.sid, app.security_counter)))
        yield from self._download(app, number, plan)
        yield from self._mention(number, UpdateState.INSTALLING)
        match (yield Verify(layers)):
            case Checked(good):
                if not good:
                    raise _UpdateFailed(ErrorCode.HASH_MISMATCH)
            case FlashBroken():
                raise _UpdateFailed(ErrorCode.INSTALL_FAILED)
            case other:
                raise Unexpected(other)
        yield from self._be_polite(app)
        yield from talk.check(at_once=True)
        self._stop_unless_wanted(app)
        yield from talk.keep(Armed())
        yield Reboot("update")

    def _download(self, app: DesiredApp, number: int, plan: Plan) -> Script[None]:
        talk = self._talk
        download = talk.state.download
        done = 0 if download is None else download.done
        told = plan.bytes_done(done) * _PROGRESS_REPORTS // max(1, plan.bytes_total)
        self._bytes = (plan.bytes_done(done), plan.bytes_total)
        yield from self._mention(number, UpdateState.DOWNLOADING)
        while done < plan.sectors:
            block = plan.block(done, self._options.block_bytes)
            data = yield from self._gather(app, block)
            match (yield Program(block.sector, block.count, data)):
                case Done():
                    done += block.count
                case FlashBroken():
                    raise _UpdateFailed(ErrorCode.INSTALL_FAILED)
                case other:
                    raise Unexpected(other)
            yield from talk.keep(Marked(done))
            self._bytes = (plan.bytes_done(done), plan.bytes_total)
            reached = self._bytes[0] * _PROGRESS_REPORTS // max(1, plan.bytes_total)
            if told < reached < _PROGRESS_REPORTS:
                told = reached
                yield from self._mention(number, UpdateState.DOWNLOADING)
            yield from talk.check()
            self._stop_unless_wanted(app)

    def _gather(self, app: DesiredApp, block: Block) -> Script[bytes]:
        """Fetch what fills a block."""
        filled = max((piece.offset + piece.end - piece.start for piece in block.pieces), default=0)
        data = bytearray(b"\xff" * filled)
        for piece in block.pieces:
            part = yield from self._fetch(app, Fetch(app.layers[piece.layer].sha256, piece.start, piece.end))
            data[piece.offset : piece.offset + len(part)] = part
        return bytes(data)

    def _fetch(self, app: DesiredApp, fetch: Fetch | FetchManifest) -> Script[bytes]:
        """Fetch one range, or a manifest, through any number of failures, but not through repeated refusals."""
        talk = self._talk
        attempts = refusals = 0
        while True:
            event = yield fetch
            if isinstance(event, Fetched):
                return event.data
            if not isinstance(event, Failure):
                raise Unexpected(event)
            attempts += 1
            refusals += event.refused
            if refusals >= self._options.refusals_max:
                raise _UpdateFailed(ErrorCode.DOWNLOAD_FAILED)
            yield from talk.pause(event, attempts)
            yield from talk.check(at_once=event.refused)
            self._stop_unless_wanted(app)

    def _be_polite(self, app: DesiredApp) -> Script[None]:
        """Wait until the running app agrees, or for as long as its own policy grants it."""
        talk = self._talk
        self._phase = "waiting"
        began_s = talk.now_s
        while True:
            patience_s = began_s + (0 if talk.desired is None else talk.desired.policy.politeness_s) - talk.now_s
            if patience_s <= 0 or talk.state.running is None:
                return
            event = yield AskLeave()
            if not isinstance(event, Checked):
                raise Unexpected(event)
            if event.good:
                return
            yield Wait(min(self._options.leave_every_s, patience_s))
            yield from talk.check()
            self._stop_unless_wanted(app)

    def _mention(self, number: int, state: UpdateState) -> Script[None]:
        """Report progress once; a lost progress report costs nothing."""
        self._phase = str(state)
        done, total = self._bytes
        yield from self._talk.tell(UpdateReport(number=number, state=state, bytes_done=done, bytes_total=total))

    def _stop_unless_wanted(self, app: DesiredApp) -> None:
        """Raise ``_Stopped`` when the desired state no longer names this update, or asks for a restart."""
        desired = self._talk.desired
        if desired is None or desired.app is None or desired.restart > self._talk.state.restart_obeyed:
            raise _Stopped
        if (desired.app.update, desired.app.manifest) != (app.update, app.manifest):
            raise _Stopped


def _identity(app: DesiredApp) -> str:
    """Return what tells an app from another in the journal: its manifest's hash, or its file's."""
    return app.manifest or app.layers[0].sha256


def _names(desired: Desired, download: Download) -> bool:
    """Return whether the desired state still asks for this download."""
    app = desired.app
    return app is not None and (app.update, app.manifest) == (download.number, download.image.manifest)
