"""``fleetvisor accounts``: further accounts on one server, each seeing only its own things."""

from typing import Annotated

import typer

from fleetvisor.cli.options import Session, command, group

app = group("Make accounts.")


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose account it is, for people.", show_default=False)],
) -> None:
    """Make an account. Its Auth Token is shown this once; only the first account's Auth Token may do this."""
    session.out.record(session.client.create_account(name).document)
    session.out.note("\nThe Auth Token is shown this once.")
