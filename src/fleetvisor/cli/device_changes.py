"""``fleetvisor devices update`` and its kin: change one device, all or nothing.

Deliberately thin: every rule is the server's.
"""

from typing import Annotated, TypedDict, Unpack

import typer

from fleetvisor.cli.devices import REPEATED, Access, AccountSecrets, Class, Controller, Ref, Refs
from fleetvisor.cli.options import Session, Usage

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="KEY=VALUE", help="Set a label, or with KEY- remove it; may be repeated.", show_default=False
    ),
]

Mode = Annotated[
    str | None,
    typer.Option("--mode", metavar="forced|attempt|skip", help="How to offer --target over DDI.", show_default=False),
]
Confirm = Annotated[
    bool | None,
    typer.Option("--confirm/--no-confirm", help="Ask for consent at the device first (DDI).", show_default=False),
]
PollInterval = Annotated[
    str | None,
    typer.Option(
        "--poll-interval", metavar="S", help="Seconds between polls; '' uses the server's.", show_default=False
    ),
]


def update(
    session: Session,
    device: Ref,
    name: Annotated[
        str | None, typer.Option("--name", help="The new unique name; '' removes it.", show_default=False)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="APP", help="The app to run; '' clears the target.", show_default=False),
    ] = None,
    logging: Annotated[
        bool | None,
        typer.Option("--logging/--no-logging", help="Send logs for 24 hours, or stop.", show_default=False),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Restart the device's app once.")] = False,
    cancel_update: Annotated[
        bool, typer.Option("--cancel-update", help="Cancel the open update; the running app stays.")
    ] = False,
    mode: Mode = None,
    confirm: Confirm = None,
    poll_interval: PollInterval = None,
    access: Access = None,
    hardware_class: Class = None,
    label: Changes = None,
    account_secrets: AccountSecrets = None,
    controller_id: Controller = None,
) -> None:
    """Change a device: all of what is given, or nothing."""
    options = (
        name,
        target,
        logging,
        mode,
        confirm,
        poll_interval,
        access,
        hardware_class,
        account_secrets,
        controller_id,
    )
    if all(option is None for option in options) and not (restart or cancel_update or label):
        raise Usage("Nothing to change was given.", "See: fleetvisor devices update --help")
    changed = session.client.update_device(
        device,
        name=name,
        target=target,
        logging=logging,
        restart=restart,
        cancel_update=cancel_update,
        mode=mode,
        confirm=confirm,
        poll_interval_s=poll_interval,
        access=access,
        hardware_class=hardware_class,
        labels=label or (),
        account_secrets=account_secrets,
        controller_id=controller_id,
    )
    session.out.record(changed.document, hidden=REPEATED)


def offer_again(session: Session, devices: Refs) -> None:
    """Make a new update to the target of devices, whatever they report: for boards that fell back or were reflashed."""
    _each(session, devices, "Offered its target to {} again.", offer_again=True)


def forget_report(session: Session, devices: Refs) -> None:
    """Forget what devices report: the server believes nothing of what they run, and offers their target again."""
    _each(session, devices, "Forgot what {} reports.", forget_report=True)


def request_attributes(session: Session, devices: Refs) -> None:
    """Ask DDI devices for their attributes again, at their next poll."""
    _each(session, devices, "{} is asked for its attributes.", request_attributes=True)


def begin_anew(session: Session, devices: Refs) -> None:
    """Take the next report of devices whatever its sequence: for boards whose count of reports started again."""
    _each(session, devices, "The next report of {} is taken.", begin_anew=True)


class _Once(TypedDict, total=False):
    """What may be asked of a device that leaves no setting behind."""

    offer_again: bool
    forget_report: bool
    request_attributes: bool
    begin_anew: bool


def _each(session: Session, devices: list[str], said: str, **change: Unpack[_Once]) -> None:
    """Make one change to each device, and say so of each once it is made."""
    for device in devices:
        changed = session.client.update_device(device, **change)
        if session.out.json:
            session.out.line(changed.document)
        else:
            session.out.note(said.format(device))
