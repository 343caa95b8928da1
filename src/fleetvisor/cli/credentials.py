"""``fleetvisor credentials``: the tokens and keys that prove a device, and the keys that are refused.

Deliberately thin: the rules are the server's, but for one that must hold before it is asked: a private key is not sent.
Spec: ``docs/reference/device-api.md``, identity.
"""

from typing import Annotated

import typer

from fleetvisor.cli.configs import read_value
from fleetvisor.cli.devices import Ref, removed
from fleetvisor.cli.durations import parse_seconds
from fleetvisor.cli.options import Session, Usage, command, group

app = group("List, replace, add and remove a device's credentials: tokens and keys.")

Fingerprints = Annotated[
    list[str], typer.Argument(metavar="FINGERPRINT…", help="SHA-256s, as the list has them.", show_default=False)
]


@command(app, "list")
def list_all(session: Session, device: Ref) -> None:
    """List what proves a device."""
    found = session.identity.credentials(device)
    if session.out.json:
        for credential in found:
            session.out.line(credential.document)
        return
    session.out.table(
        ("type", "fingerprint", "created", "ends"),
        [(c.type, c.fingerprint, c.date_created, c.date_expires) for c in found],
    )


@command(app, "rotate")
def rotate(
    session: Session,
    device: Ref,
    overlap: Annotated[
        str | None,
        typer.Option(
            "--overlap",
            metavar="TIME",
            help="How long older tokens still work, such as 12h; 1d if absent.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a new token for a device, shown this once. Its older tokens end after the overlap; keys stay."""
    session.out.record(session.identity.add_token(device, parse_seconds(overlap, "--overlap")).document)
    session.out.note("\nThe token is shown only once. Store it where only its device can read it.")


@command(app, "add-key")
def add_key(
    session: Session,
    device: Ref,
    file: Annotated[
        str,
        typer.Argument(
            metavar="PUB.pem", help="A P-256 public key: PEM, base64 or hex; - is stdin.", show_default=False
        ),
    ],
) -> None:
    """Let a key prove a device, beside what does already."""
    text = read_value(file).strip()
    if "PRIVATE KEY" in text:
        raise Usage(
            "This is a private key, which must stay on its device. Nothing was sent.",
            "Give its public half: openssl pkey -pubout -in KEY.pem",
        )
    session.out.record(session.identity.add_key(device, text).document, hidden=("device_token",))


@command(app, "remove")
def remove(session: Session, device: Ref, fingerprints: Fingerprints) -> None:
    """Remove credentials: they prove nothing any more, and a key may not enrol again until it is freed."""
    for fingerprint in fingerprints:
        session.identity.remove_credential(device, fingerprint)
        removed(session, "credential", fingerprint)


@command(app, "refused")
def refused(session: Session) -> None:
    """List the keys that may not enrol again, newest first."""
    found = session.identity.refused_keys()
    if session.out.json:
        for key in found:
            session.out.line(key.document)
        return
    session.out.table(
        ("fingerprint", "was of", "created"), [(k.fingerprint, k.device_sid, k.date_created) for k in found]
    )


@command(app, "free")
def free(session: Session, fingerprints: Fingerprints) -> None:
    """Let refused keys enrol again."""
    for fingerprint in fingerprints:
        session.identity.free_key(fingerprint)
        if session.out.json:
            session.out.line({"freed": fingerprint})
        else:
            session.out.note(f"Freed key {fingerprint}.")
