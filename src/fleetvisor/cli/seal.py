"""``fleetvisor seal``: the keys under which secrets lie sealed in the database."""

from fleetvisor.cli.options import Failure, Session, command, group

app = group("Renew the key that seals secrets at rest.")


@command(app, "rotate")
def rotate(session: Session) -> None:
    """Make a new sealing key, and seal everything anew with it."""
    raise Failure("This is not built yet.")
