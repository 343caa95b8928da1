"""``fleetvisor events``: what happened, to what, by whom. Spec: ``docs/reference/events.md``."""

import itertools
from typing import Annotated

import typer

from fleetvisor.cli.options import Session


def events(
    session: Session,
    type: Annotated[  # noqa: A002  the API's word
        str | None,
        typer.Option("--type", metavar="TYPE", help="Only these, such as device.created.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Only of this device.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only from 2026-01-31T12:00:00Z on, or a day.", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only before this time or day.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show only the newest N.")] = 50,
) -> None:
    """List what happened, newest first: every change and every refusal, with who and from where."""
    found = itertools.islice(session.operators.events(type=type, device=device, since=since, until=until), limit)
    if session.out.json:
        for event in found:
            session.out.line(event.document)
        return
    shown = list(found)
    session.out.table(
        ("time", "type", "of", "by", "from", "data"),
        (
            (
                event.date_created,
                event.type,
                event.device_sid or event.subject_sid,
                event.actor_sid,
                event.address,
                " ".join(f"{name}={value}" for name, value in event.data.items() if value is not None),
            )
            for event in shown
        ),
    )
    if type is not None and not shown:
        session.out.note(f"There is no such event of type {type!a}. docs/reference/events.md lists the types.")
