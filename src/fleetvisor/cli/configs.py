"""``fleetvisor configs`` and ``fleetvisor secrets``: keys and values for devices, per account or per device.

A secret's value is never an argument, where every user of the machine could read it, and is in no answer of the
server. Deliberately thin: the rules for keys and values are the server's.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from fleetvisor.cli.devices import removed
from fleetvisor.cli.options import Session, Usage, command, group

configs = group("List, set, show and remove configs: values that devices and operators can read.")
secrets = group("List, set, show and remove secrets: values that only devices can read.")

CONFIGS: Final = "Configs"
SECRETS: Final = "Secrets"

OfDevice = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="Use the device's values instead of the account's.", show_default=False
    ),
]
EntryKey = Annotated[str, typer.Argument(metavar="KEY", help="Its key.", show_default=False)]
EntryKeys = Annotated[list[str], typer.Argument(metavar="KEY…", help="Their keys.", show_default=False)]
FromFile = Annotated[
    str | None,
    typer.Option("--file", metavar="FILE", help="Read the value from this file; - is stdin.", show_default=False),
]


def read_value(file: str) -> str:
    """Read a value from a file as it is, or from stdin (``-``) without the one line end that programs add."""
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Usage("The value is not valid UTF-8.", "Encode binary values as text, for example in base64.") from error
    return text.removesuffix("\n").removesuffix("\r") if file == "-" else text


@command(configs, "list")
def list_configs(session: Session, device: OfDevice = None) -> None:
    """List the configs, by key."""
    found = session.client.entries(CONFIGS, device)
    if session.out.json:
        for entry in found:
            session.out.line(entry.document)
        return
    session.out.table(("key", "value", "updated"), [(e.key, e.value, e.date_updated) for e in found])


@command(secrets, "list")
def list_secrets(session: Session, device: OfDevice = None) -> None:
    """List the secrets' keys, in order."""
    found = session.client.entries(SECRETS, device)
    if session.out.json:
        for entry in found:
            session.out.line(entry.document)
        return
    session.out.table(("key", "rotated"), [(e.key, e.date_rotated) for e in found])


@command(configs, "set")
def set_config(
    session: Session,
    key: EntryKey,
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="Its value.", show_default=False)] = None,
    file: FromFile = None,
    device: OfDevice = None,
) -> None:
    """Set a config, whether it exists already or not."""
    if (value is None) == (file is None):
        raise Usage("Give either a VALUE or --file.", "See: fleetvisor configs set --help")
    text = value if value is not None else read_value(file or "-")
    session.out.record(session.client.set_entry(CONFIGS, key, text, device).document)


@command(secrets, "set")
def set_secret(
    session: Session,
    key: EntryKey,
    source: Annotated[
        str | None, typer.Argument(metavar="-", help="Read the value from stdin.", show_default=False)
    ] = None,
    file: FromFile = None,
    device: OfDevice = None,
) -> None:
    """Set a secret, whether it exists already or not.

    The value is asked for without showing it, or read from --file, or from stdin with -.
    """
    if source not in {None, "-"}:
        raise Usage(
            "A secret's value cannot be an argument, because every user of this machine could read it.",
            "Type the value when asked, or use --file FILE, or - for stdin.",
        )
    if source is not None and file is not None:
        raise Usage("Give either - or --file.")
    chosen = file or source
    if chosen is not None:
        value = read_value(chosen)
    elif sys.stdin.isatty():
        value = typer.prompt(f"Value of {key}", hide_input=True, default="", show_default=False, err=True)
    else:
        raise Usage("There is no terminal on which to ask for the value.", "Use --file FILE, or - for stdin.")
    session.out.record(session.client.set_entry(SECRETS, key, value, device).document)


@command(configs, "show")
def show_config(session: Session, key: EntryKey, device: OfDevice = None) -> None:
    """Show one config."""
    session.out.record(session.client.entry(CONFIGS, key, device).document)


@command(secrets, "show")
def show_secret(session: Session, key: EntryKey, device: OfDevice = None) -> None:
    """Show when a secret was last set; its value is never shown."""
    session.out.record(session.client.entry(SECRETS, key, device).document)


@command(configs, "remove")
def remove_configs(session: Session, keys: EntryKeys, device: OfDevice = None) -> None:
    """Remove configs."""
    for key in keys:
        session.client.remove_entry(CONFIGS, key, device)
        removed(session, "config", key)


@command(secrets, "remove")
def remove_secrets(session: Session, keys: EntryKeys, device: OfDevice = None) -> None:
    """Remove secrets."""
    for key in keys:
        session.client.remove_entry(SECRETS, key, device)
        removed(session, "secret", key)
