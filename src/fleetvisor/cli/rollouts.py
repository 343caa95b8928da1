"""``fleetvisor rollouts``: an app to a selection of devices, in waves, under a guard; watched, ended, taken back.

Deliberately thin: every rule, every decision and every number is the server's. ``rollout_view`` draws,
``rollout_watch`` follows. Spec: our extensions in ``docs/reference/rest-api.md``.
"""

import itertools
from typing import Annotated

import typer

from fleetvisor.cli import rollout_view as view
from fleetvisor.cli.devices import AppNames, Everything, Selector, is_blank, removed
from fleetvisor.cli.options import AppRef, Failure, Newest, Session, Usage, command, group
from fleetvisor.cli.rollout_options import NewRollout, Pace, Ref, Timeout
from fleetvisor.cli.rollout_watch import app_name, show_whole, watch
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.rollouts import EVERYTHING, Action, Rollout

app = group("Release an app to devices in waves, under a guard that stops a bad release; watch, abort or roll it back.")


@command(app, "create")
def create(
    session: Session,
    app: AppRef,
    selector: Selector = None,
    everything: Everything = False,
    *,
    new: NewRollout,
) -> None:
    """Draft a rollout of an app to those that -l selects, or with --all to every device.

    Nothing happens before it is started.

    Times are written 90s, 10m, 2h, 1d, or in seconds. When the draft cannot be started it is kept and shown, and the
    exit status is 1.
    """
    if is_blank(selector):
        raise Usage("The selector is empty.", "For every device say --all.")
    if everything == (selector is not None):
        raise Usage("Say which devices: either -l SELECTOR or --all.", "See: fleetvisor rollouts create --help")
    session.client.app(app)  # an app that is not there is told as that, and not as a parameter that is refused
    made = session.rollouts.create(app, selector or EVERYTHING, new.wanted)
    _show_made(session, made, start=new.start, start_at=new.start_at)


@command(app, "rollback")
def rollback(session: Session, rollout: Ref, new: NewRollout) -> None:
    """Draft the taking back of a rollout that is over: each of its devices gets the app that it ran before.

    It is a rollout itself, with waves and a guard. Nothing happens before it is started.
    """
    made = session.rollouts.create_rollback(session.rollouts.get(rollout).sid, new.wanted)
    _show_made(session, made, start=new.start, start_at=new.start_at)


def _show_made(session: Session, made: Rollout, *, start: bool, start_at: str | None) -> None:
    """Start a draft if that is wanted, and show it."""
    if not start and start_at is None:
        _show(session, made)
        session.out.note(f"\nThe rollout is a draft. Start it with: fleetvisor rollouts start {made.sid}")
        return
    try:
        started = session.rollouts.act(made.sid, "start", start_at=start_at)
    except (ApiProblem, Unreachable) as problem:
        _show(session, made)
        raise Failure(
            f"The draft {made.sid} was made but not started: {problem.detail}",
            f"{problem.hint}\nThen: fleetvisor rollouts start {made.sid}",
        ) from problem
    _show(session, started)


def _show(session: Session, rollout: Rollout) -> None:
    show_whole(session, rollout, app_name(session, rollout))


@command(app, "list")
def list_all(
    session: Session,
    limit: Newest = None,
) -> None:
    """List the rollouts, newest first."""
    found = itertools.islice(session.rollouts.list(), limit)
    if session.out.json:
        for rollout in found:
            session.out.line(rollout.document)
        return
    names = AppNames(session.client)
    session.out.table(
        ("name", "sid", "state", "wave", "what", "succeeded", "failed", "silent", "updating", "created"),
        [
            (
                rollout.friendly_name,
                rollout.sid,
                rollout.state,
                view.place(rollout),
                view.subject(rollout, names[rollout.app_sid]),
                *(rollout.counts.get(state, 0) for state in ("succeeded", "failed", "silent", "updating")),
                rollout.date_created,
            )
            for rollout in found
        ],
    )


@command(app, "show")
def show(session: Session, rollout: Ref) -> None:
    """Show one rollout: its waves, its failure rate, what the guard says of it, and what it waits for."""
    _show(session, session.rollouts.get(rollout))


@command(app, "plan")
def plan(
    session: Session,
    rollout: Ref,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=0, metavar="N", help="Name N devices of each wave.", show_default=False),
    ] = None,
) -> None:
    """Show what a rollout would do if it began now: the devices of each wave, and those left out, with the reason."""
    found = session.rollouts.plan(rollout, sample)
    if session.out.json:
        session.out.record(found.document)
        return
    named = ("sample",) if sample else ()
    waves = [
        (wave.position, wave.size, wave.devices, wave.unchanged, wave.new, *([" ".join(wave.sample)] if sample else []))
        for wave in found.waves
    ]
    session.out.record({"selected": found.selected, "in no wave": found.beyond})
    session.out.write("")
    session.out.table(("wave", "up to", "devices", "unchanged", "new", *named), waves)
    for warning in found.warnings:
        session.out.warn(warning)
    if found.left_out:
        left = [
            (out.reason.replace("_", " "), out.devices, *([" ".join(out.sample)] if sample else []))
            for out in found.left_out
        ]
        session.out.write("")
        session.out.table(("left out", "devices", *named), left)


@command(app, "start")
def start(
    session: Session,
    rollout: Ref,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="Not now, but then: 2026-01-31T12:00:00Z, or a day.", show_default=False
        ),
    ] = None,
    *,
    pace: Pace,
    watch_it: Annotated[bool, typer.Option("--watch", help="Watch it to its end, as rollouts watch does.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, metavar="S", help="With --watch: give up after S seconds.", show_default=False
        ),
    ] = None,
) -> None:
    """Start a draft."""
    begun = session.rollouts.act(
        rollout, "start", start_at=at, concurrent_max=pace.max_concurrent, starts_per_minute=pace.starts_per_minute
    )
    if watch_it:
        watch(session, begun, timeout)
    else:
        _show(session, begun)


@command(app, "watch")
def watch_one(session: Session, rollout: Ref, timeout: Timeout = None) -> None:
    """Watch a rollout until it ends: exit status 0 when it was completed, 8 when it was stopped or aborted.

    With --json a line for each change, and the whole rollout in the last line. Ctrl-C, or a --timeout (exit status
    1), ends the watching alone.
    """
    watch(session, session.rollouts.get(rollout), timeout)


@command(app, "update")
def update(session: Session, rollout: Ref, pace: Pace) -> None:
    """Change the pace of a rollout that is not over."""
    if pace == Pace():
        raise Usage("Nothing to change was given.", "See: fleetvisor rollouts update --help")
    changed = session.rollouts.act(
        rollout, concurrent_max=pace.max_concurrent, starts_per_minute=pace.starts_per_minute
    )
    _show(session, changed)


def _act(session: Session, rollout: str, action: Action) -> None:
    _show(session, session.rollouts.act(rollout, action))


@command(app, "pause")
def pause(session: Session, rollout: Ref) -> None:
    """Pause a rollout: nothing more is offered until it is resumed; open updates go on."""
    _act(session, rollout, "pause")


@command(app, "resume")
def resume(session: Session, rollout: Ref) -> None:
    """Let a paused rollout go on."""
    _act(session, rollout, "resume")


@command(app, "abort")
def abort(session: Session, rollout: Ref) -> None:
    """End a rollout for good: its open updates are canceled; devices that have the app keep it."""
    _act(session, rollout, "abort")


@command(app, "retry")
def retry(session: Session, rollout: Ref) -> None:
    """Offer the app once more to the devices that failed with it or fell silent."""
    _act(session, rollout, "retry")


@command(app, "release")
def release(
    session: Session,
    rollout: Ref,
    wave: Annotated[
        int | None,
        typer.Option("--wave", min=1, metavar="N", help="Only if this wave is the open one.", show_default=False),
    ] = None,
) -> None:
    """Release the open wave by hand, whatever the guard says of it: the next one opens, or the rollout ends.

    With --wave no other wave is released by mistake, when the guard, or another operator, was faster.
    """
    _show(session, session.rollouts.act(rollout, "release", wave=wave))


@command(app, "decisions")
def decisions(
    session: Session,
    rollout: Ref,
    limit: Newest = None,
) -> None:
    """List what the guard and operators decided, newest first, with the numbers it stood on (--json)."""
    found = itertools.islice(session.rollouts.decisions(rollout), limit)
    if session.out.json:
        for decision in found:
            session.out.line(decision.document)
        return
    session.out.table(
        ("no", "time", "wave", "verdict", "code", "sentence"),
        [(one.number, one.date_created, one.wave, one.verdict, one.code, one.sentence) for one in found],
    )


@command(app, "devices")
def devices(
    session: Session,
    rollout: Ref,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only devices in this state, such as failed, silent or skipped.",
            show_default=False,
        ),
    ] = None,
    selector: Selector = None,
) -> None:
    """List what became of each device that the rollout came to: all, or those that -l selects now."""
    found = session.rollouts.devices(rollout, state, selector, session.out.warn)
    if session.out.json:
        for device in found:
            session.out.line(device.document)
        return
    names = AppNames(session.client)
    session.out.table(
        ("device", "wave", "state", "why", "attempts", "ran before", "changed"),
        [
            (one.device_sid, one.wave, one.state, view.outcome(one), one.attempts, names[one.previous_sid],
             one.date_changed)
            for one in found
        ],
    )  # fmt: skip


@command(app, "remove")
def remove(
    session: Session,
    rollouts: Annotated[list[str], typer.Argument(metavar="RO…", help="SIDs of rollouts.", show_default=False)],
) -> None:
    """Remove rollouts, with their history. One that is under way is refused with exit status 5: abort it first."""
    for sid in rollouts:
        session.rollouts.delete(sid)
        removed(session, "rollout", sid)
