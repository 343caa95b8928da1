"""``fleetvisor auth-token``: replace the account's Auth Token without a pause.

Spec: ``docs/how-to/rotate-credentials.md``.
"""

from fleetvisor.cli.devices import removed
from fleetvisor.cli.options import Session, command, group

app = group("Replace the account's Auth Token without downtime.")


@command(app, "create")
def create(session: Session) -> None:
    """Make a second Auth Token, shown this once. Both open the account until it is promoted or removed."""
    session.out.record(session.operators.create_secondary_token().document)
    session.out.note("\nGive it to every program, then: fleetvisor auth-token promote")


@command(app, "promote")
def promote(session: Session) -> None:
    """Make the second Auth Token the first. The one before opens nothing any more."""
    session.out.record(session.operators.promote_token().document)
    session.out.note("\nThe server's credentials.json follows within a second.")


@command(app, "remove")
def remove(session: Session) -> None:
    """Remove the second Auth Token."""
    session.operators.delete_secondary_token()
    removed(session, "token", "secondary")
