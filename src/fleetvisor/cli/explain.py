"""``fleetvisor devices explain`` and ``devices penalties``: why a device runs what it runs, and what holds it back.

Deliberately thin: the server knows the reasons. Spec: ``docs/reference/explain.md``.
"""

from typing import Annotated

import typer

from fleetvisor.cli.devices import Ref
from fleetvisor.cli.options import Session


def explain(session: Session, device: Ref) -> None:
    """Tell why a device runs what it runs and not something else, and what it waits for."""
    found = session.explanations.explain(device)
    if session.out.json:
        session.out.record(found.document)
        return
    rows = [(reason.code, reason.sentence, reason.until or "") for reason in found.reasons]
    session.out.table(("code", "why", "until"), rows)


def penalties(
    session: Session,
    device: Ref,
    lift: Annotated[
        str | None,
        typer.Option("--lift", metavar="APP", help="Let rollouts offer it this app again.", show_default=False),
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
