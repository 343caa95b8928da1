"""``fleetvisor gateway``: the token by which DDI devices register themselves.

Deliberately thin: every rule is the server's. Spec: ``docs/reference/ddi.md``, devices that register themselves.
"""

from fleetvisor.cli.options import Session, command, group

app = group("Allow DDI devices to register themselves, or stop that.")


@command(app, "enable")
def enable(session: Session) -> None:
    """Make the gateway token, shown this once, in place of the one there was.

    A device that polls with it waits, until it is let in by: fleetvisor devices accept.
    """
    session.out.record(session.identity.enable_gateway().document)
    session.out.note(
        "\nThe token is shown only once. Whoever has it can act as every device without a credential of its own."
    )


@command(app, "show")
def show(session: Session) -> None:
    """Show whether there is a gateway token, and how many devices wait to be accepted."""
    session.out.record(session.identity.gateway().document)


@command(app, "disable")
def disable(session: Session) -> None:
    """Take the gateway token away: it proves nobody any more. Shows what there is then."""
    session.identity.disable_gateway()
    session.out.record(session.identity.gateway().document)
