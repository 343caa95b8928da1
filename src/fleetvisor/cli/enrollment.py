"""``fleetvisor enrollment``: tokens that let new devices in with keys of their own.

Deliberately thin: every rule is the server's. Spec: ``docs/reference/device-api.md``, enrolment.
"""

from typing import Annotated

import typer

from fleetvisor.cli.devices import Class, Labels, removed
from fleetvisor.cli.durations import parse_seconds
from fleetvisor.cli.options import Purpose, Session, command, group

app = group("Create, list, show, revoke and remove enrolment tokens, with which new devices register.")

Tokens = Annotated[list[str], typer.Argument(metavar="ET…", help="SIDs of enrolment tokens.", show_default=False)]


@command(app, "create")
def create(
    session: Session,
    name: Purpose = None,
    uses: Annotated[
        int | None,
        typer.Option("--uses", metavar="N", help="How many devices it admits; 1 if absent.", show_default=False),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="TIME",
            help="How long until it expires, such as 7d; 30d if absent, 0: never.",
            show_default=False,
        ),
    ] = None,
    hardware_class: Class = None,
    label: Labels = None,
    account_secrets: Annotated[
        bool, typer.Option("--account-secrets", help="Let its devices fetch the account's secrets.")
    ] = False,
    waits: Annotated[bool, typer.Option("--waits", help="Let its devices wait until they are accepted.")] = False,
) -> None:
    """Make an enrolment token, shown this once. Devices that enrol with it get its hardware class and labels."""
    made = session.identity.create_enrollment_token(
        name,
        uses_max=uses,
        ttl_s=parse_seconds(ttl, "--ttl"),
        hardware_class=hardware_class,
        labels=label or (),
        account_secrets=account_secrets,
        waits=waits,
    )
    session.out.record(made.document)
    session.out.note("\nThe token is shown only once.")


@command(app, "list")
def list_all(session: Session) -> None:
    """List the enrolment tokens, newest first, without their text."""
    found = session.identity.enrollment_tokens()
    if session.out.json:
        for token in found:
            session.out.line(token.document)
        return
    session.out.table(
        ("name", "sid", "uses", "ends", "revoked", "secrets", "waits", "class", "labels"),
        [
            (
                token.friendly_name,
                token.sid,
                f"{token.uses} of {token.max_uses}",
                token.date_expires,
                token.revoked,
                token.account_secrets,
                token.waits,
                token.hardware_class,
                " ".join(f"{key}={value}" for key, value in token.labels.items()),
            )
            for token in found
        ],
    )


@command(app, "show")
def show(
    session: Session,
    token: Annotated[str, typer.Argument(metavar="ET…", help="An enrolment token's SID.", show_default=False)],
) -> None:
    """Show one enrolment token, without its text."""
    session.out.record(session.identity.enrollment_token(token).document)


@command(app, "revoke")
def revoke(session: Session, tokens: Tokens) -> None:
    """Revoke enrolment tokens: they let nobody in any more, and whom they let in stays. With --json one line each."""
    for sid in tokens:
        token = session.identity.revoke_enrollment_token(sid)
        if session.out.json:
            session.out.line(token.document)
        else:
            session.out.note(f"Revoked enrolment token {sid}.")


@command(app, "remove")
def remove(session: Session, tokens: Tokens) -> None:
    """Remove enrolment tokens: they let nobody in any more, and whom they let in stays."""
    for sid in tokens:
        session.identity.remove_enrollment_token(sid)
        removed(session, "enrolment token", sid)
