"""``fleetvisor devices explain``, ``updates`` and ``penalties``: why a device runs what it runs, and how it came to it.

Deliberately thin: the server knows the reasons. Spec: ``docs/reference/explain.md``.
"""

import itertools
from typing import Annotated

import typer

from fleetvisor.cli.devices import AppNames, Ref, reason
from fleetvisor.cli.options import Newest, Session


def explain(session: Session, device: Ref) -> None:
    """Explain why a device runs what it runs and not something else, and what it waits for."""
    found = session.explanations.explain(device)
    if session.out.json:
        session.out.record(found.document)
        return
    rows = [(reason.code, reason.sentence, reason.until or "") for reason in found.reasons]
    session.out.table(("code", "why", "until"), rows)


def updates(
    session: Session,
    device: Ref,
    limit: Newest = None,
) -> None:
    """List the updates of a device, newest first: what it was given, by which rollout, and what became of it."""
    found = itertools.islice(session.explanations.updates(device), limit)
    if session.out.json:
        for update in found:
            session.out.line(update.document)
        return
    names = AppNames(session.client)
    session.out.table(
        ("no", "app", "state", "why", "rollout", "begun", "changed"),
        [
            (one.number, names[one.app_sid], one.state, reason(one.error_code) if one.error_code else "",
             one.rollout_sid or "", one.date_created, one.date_updated)
            for one in found
        ],
    )  # fmt: skip


def penalties(
    session: Session,
    device: Ref,
    lift: Annotated[
        str | None,
        typer.Option(
            "--lift", metavar="APP", help="Allow rollouts to offer this app to the device again.", show_default=False
        ),
    ] = None,
) -> None:
    """List the apps that a device failed: rollouts pass it by once it failed one too often. Or lift a penalty."""
    if lift is not None:
        app = session.client.app(lift)
        session.explanations.lift(device, app.sid)
        if session.out.json:
            session.out.record({"lifted": app.sid})
        else:
            session.out.note(f"Rollouts may offer {lift} to {device} again.")
        return
    found = session.explanations.penalties(device)
    if session.out.json:
        session.out.record(found.document)
        return
    session.out.table(
        ("app", "failures", "held", "last"),
        [(row.app_sid, row.failures, "yes" if row.held else "no", row.date_failed) for row in found.penalties],
    )
