"""``fleetvisor accounts``: further accounts on one server, each seeing only its own things."""

from typing import Annotated

import typer

from fleetvisor.cli.devices import removed
from fleetvisor.cli.options import Session, Usage, command, group

app = group("Create, list, suspend and end accounts.")

Sid = Annotated[str, typer.Argument(metavar="AC…", help="An account's SID.", show_default=False)]


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="The account's name, for people.", show_default=False)],
) -> None:
    """Make an account. Its Auth Token is shown this once; only the first account's Auth Token may do this."""
    session.out.record(session.client.create_account(name).document)
    session.out.note("\nThe Auth Token is shown only once.")


@command(app, "list")
def list_all(session: Session) -> None:
    """List the accounts of the server, newest first."""
    found = session.operators.accounts()
    if session.out.json:
        for account in found:
            session.out.line(account.document)
        return
    session.out.table(
        ("name", "sid", "status", "devices", "created"),
        [(a.friendly_name, a.account_sid, a.status, a.device_count, a.date_created) for a in found],
    )


@command(app, "suspend")
def suspend(session: Session, account: Sid) -> None:
    """Suspend an account: its credentials and devices are refused at once. Nothing of it is removed."""
    session.out.record(session.operators.set_account_status(account, "suspended").document)


@command(app, "resume")
def resume(session: Session, account: Sid) -> None:
    """Let a suspended account in again."""
    session.out.record(session.operators.set_account_status(account, "active").document)


@command(app, "end")
def end(
    session: Session,
    account: Sid,
    everything: Annotated[
        bool, typer.Option("--everything", help="Confirm that all data of the account is removed.")
    ] = False,
) -> None:
    """End an account: its devices, apps, configs, secrets, rollouts and events are removed for good."""
    if not everything:
        raise Usage(
            "This removes all data of the account.", "Confirm with --everything, or suspend the account instead."
        )
    session.operators.end_account(account)
    removed(session, "account", account)
