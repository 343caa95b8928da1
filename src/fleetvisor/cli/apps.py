"""``fleetvisor apps``: make, check, upload, list, show and remove bundles.

``bundle`` and ``verify`` need no server. Deliberately thin: the format is ``protocol``'s, the rules the server's.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleetvisor.cli.devices import removed
from fleetvisor.cli.options import AppRef, Failure, Session, command, group

app = group("Create, check, upload, list, show and remove apps: firmware for devices.")

_PEM = "KEY.pem"
Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle: a .zip file.", exists=True, dir_okay=False, readable=True)
]


def _number(text: str | int) -> int:
    """Read a decimal or, with 0x, hexadecimal number; Typer hands the default through here, too."""
    try:
        return int(text, 0) if isinstance(text, str) else text
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a number, such as 65536 or 0x10000.") from error


@command(app, "bundle")
def bundle(
    session: Session,
    firmware: Annotated[
        Path, typer.Argument(metavar="FIRMWARE", help="An .elf, or a .bin.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The bundle to write.", show_default=False)],
    start: Annotated[
        int, typer.Option(parser=_number, metavar="BYTES", help="Where its region of internal flash begins.")
    ] = 0,
    size: Annotated[int, typer.Option(parser=_number, metavar="BYTES", help="The size of that region.")] = 1 << 20,
    debug_key: Annotated[
        Path | None,
        typer.Option(metavar=_PEM, help="P-256 public key allowed to debug it.", exists=True, show_default=False),
    ] = None,
    connection_grace_time: Annotated[
        int, typer.Option(min=0, metavar="S", help="Seconds that the device may be without a connection.")
    ] = 0,
    minimum_check_in_time: Annotated[
        int, typer.Option(min=0, metavar="S", help="Seconds between check-ins; 0: stay connected.")
    ] = 0,
    politeness: Annotated[
        int, typer.Option(min=0, metavar="S", help="Seconds it may put off an update, once it runs.")
    ] = 0,
    minimum_kernel_version: Annotated[int, typer.Option(min=0, metavar="N", help="Kernel version needed.")] = 0,
    sign_key: Annotated[
        Path | None,
        typer.Option(metavar=_PEM, help="P-256 private key to sign it with.", exists=True, show_default=False),
    ] = None,
) -> None:
    """Make a bundle from firmware. The same input gives the same bytes each time."""
    from fleetvisor.protocol import signing
    from fleetvisor.protocol.firmware import load_firmware
    from fleetvisor.protocol.pack import pack

    packed = pack(
        load_firmware(firmware, start=start, size=size),
        start=start,
        size=size,
        debug_key=None if debug_key is None else signing.point(signing.load_public_key(debug_key.read_bytes())),
        connection_grace_time_s=connection_grace_time,
        minimum_check_in_time_s=minimum_check_in_time,
        politeness_s=politeness,
        minimum_kernel_version=minimum_kernel_version,
        sign_key=None if sign_key is None else signing.load_private_key(sign_key.read_bytes()),
    )
    out.write_bytes(packed)
    if session.out.json:
        session.out.record({"bundle": str(out), "size_bytes": len(packed)})
    else:
        session.out.note(f"Wrote {out}, {len(packed):,} bytes. Upload it with: fleetvisor apps create {out} NAME")


@command(app, "verify")
def verify(
    session: Session,
    bundle: Bundle,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUB.pem", help="P-256 public key that must have signed it.", exists=True, show_default=False
        ),
    ] = None,
) -> None:
    """Check a bundle, offline: every rule of the format, and with --key its signature. Exit status 1 if it fails."""
    from fleetvisor.protocol import signing
    from fleetvisor.protocol.verify import verify_bundle

    report = verify_bundle(bundle, None if key is None else signing.load_public_key(key.read_bytes()))
    session.out.record(msgspec.json.encode(report))
    if not report.ok:
        raise Failure(f"{bundle}: {report.problem}")


@command(app, "create")
def create(
    session: Session,
    firmware: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle, or a SWUpdate, RAUC or MCUboot file.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ],
    name: Annotated[str | None, typer.Argument(help="Its unique name, such as app-1.4.2.", show_default=False)] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="The kind that the file must have; raw accepts any file.", show_default=False
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its version, if the file states none.", show_default=False)
    ] = None,
    hardware_class: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="The devices it is for, if the file does not say.", show_default=False),
    ] = None,
) -> None:
    """Upload a bundle or other firmware: it becomes an app that devices can be given."""
    with session.out.upload(firmware) as progress:
        made = session.client.create_app(
            firmware, name, progress, kind=kind, version=version, hardware_class=hardware_class
        )
    session.out.record(made.document, hidden=("links",))


@command(app, "list")
def list_all(session: Session) -> None:
    """List the apps, newest first."""
    found = session.client.apps()
    if session.out.json:
        for item in found:
            session.out.line(item.document)
        return
    rows = [
        (a.unique_name, a.sid, a.kind, a.version, a.hash.removeprefix("sha256:")[:12], a.date_created) for a in found
    ]
    session.out.table(("name", "sid", "kind", "version", "hash", "created"), rows)
    damaged = [a.unique_name or a.sid for a in found if a.damaged]
    if damaged:
        session.out.warn(f"The stored bytes of {', '.join(damaged)} are damaged: upload the same firmware again.")


@command(app, "show")
def show(session: Session, app: AppRef) -> None:
    """Show one app."""
    session.out.record(session.client.app(app).document, hidden=("links",))


@command(app, "remove")
def remove(
    session: Session,
    apps: Annotated[list[str], typer.Argument(metavar="APP…", help="SIDs or unique names.", show_default=False)],
) -> None:
    """Remove apps. One that a device targets, or is being updated to, is refused with exit status 5."""
    for ref in apps:
        session.client.remove_app(ref)
        removed(session, "app", ref)
