"""``fleetvisor keys``: API keys, what a program proves itself with instead of the Auth Token."""

from typing import Annotated

import typer

from fleetvisor.cli.devices import removed
from fleetvisor.cli.durations import parse_seconds
from fleetvisor.cli.options import Purpose, Session, command, group

app = group("Create, list and remove API keys.")


@command(app, "create")
def create(
    session: Session,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="viewer, operator or admin: what the key allows.", show_default=False
        ),
    ],
    name: Purpose = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="TIME",
            help="How long until it expires, such as 90d; if absent, with the key in use.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make an API key. Its secret is shown this once: use SID and secret as user name and password."""
    session.out.record(session.client.create_key(name, role=role, ttl_s=parse_seconds(ttl, "--ttl")).document)
    session.out.note("\nThe secret is shown only once.")


@command(app, "list")
def list_all(session: Session) -> None:
    """List the API keys, without their secrets."""
    found = session.client.keys()
    if session.out.json:
        for key in found:
            session.out.line(key.document)
        return
    session.out.table(
        ("name", "sid", "role", "created", "ends", "last used", "made with"),
        [
            (k.friendly_name, k.sid, k.role, k.date_created, k.date_expires, k.date_last_used, k.maker_sid)
            for k in found
        ],
    )


@command(app, "remove")
def remove(
    session: Session,
    keys: Annotated[list[str], typer.Argument(metavar="SK…", help="SIDs of keys.", show_default=False)],
    descendants: Annotated[
        bool, typer.Option("--descendants", help="Remove the keys that were made with them, too.")
    ] = False,
) -> None:
    """Remove API keys: they open nothing any more. One that made others is removed with --descendants only."""
    for key in keys:
        session.client.remove_key(key, descendants=descendants)
        removed(session, "key", key)
