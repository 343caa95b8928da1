"""``fleetvisor agent``: one real agent process, with its flash in a directory: a device without a board.

Deliberately takes the token from a file or from stdin: a token on a command line is every user's to read.
"""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from fleetvisor.cli.options import Failure, Session, Usage, command, group

app = group("Run the device's side of the native device API.")


@command(app, "run")
def run(
    session: Session,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="The server: https://host:port.", show_default=False)
    ],
    sid: Annotated[str, typer.Option("--sid", metavar="UV…", help="The device's SID.", show_default=False)],
    token_file: Annotated[
        str,
        typer.Option(
            "--token-file", metavar="FILE", help="The file with the device's token; - is stdin.", show_default=False
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            "--state",
            metavar="DIR",
            help="The directory that holds the device's flash between runs.",
            show_default=False,
        ),
    ],
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            exists=True,
            help="The server's CA; without it, the system's authorities.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run one agent until it is stopped: it polls, downloads, checks, boots, tests and reports.

    Its flash is a file in --state, so that it goes on after a stop, a crash or a power cut where a board would.
    """
    from fleetvisor.client.credentials import checked_url
    from fleetvisor.ground.sids import is_sid

    if not is_sid(sid, "UV"):
        raise Usage(f"{sid} is not a device's SID.", "It is UV and 32 hex digits; see: fleetvisor devices list")
    token = (sys.stdin.read() if token_file == "-" else Path(token_file).read_text()).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise Usage("The token file holds no token.", "It must hold what: fleetvisor devices create showed as token.")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_live(session, checked_url(url, "--url"), sid, token, state, ca_file))


async def _live(session: Session, url: str, sid: str, token: str, state: Path, ca_file: Path | None) -> None:
    from fleetvisor.agent.core import View
    from fleetvisor.agent.flash import FlashFault
    from fleetvisor.agent.plan import Geometry
    from fleetvisor.agent.runner import Device, file_flash
    from fleetvisor.agent.transport import HttpTransport, open_pool
    from fleetvisor.reality import RealClock, RealEntropy

    shown = ""

    def show(view: View) -> None:
        nonlocal shown
        if session.out.json:
            session.out.line({"sid": sid, "phase": view.phase, "running": view.running, "bytes_done": view.bytes_done})
            return
        text = f"{sid}: {view.phase}, runs {view.running[:12] if view.running else 'nothing'}"
        if text != shown:
            shown = text
            session.out.note(text)

    def heed(view: View) -> None:
        try:
            show(view)
        except BrokenPipeError:  # whoever read it went: that ends a program of a pipeline
            raise
        except OSError as error:  # a full disk behind stdout must not end the device
            with contextlib.suppress(OSError):
                session.out.warn(f"What the device does could not be written: {error.strerror}.")

    geometry = Geometry()
    try:
        flash = file_flash(state / "flash", geometry)
        async with open_pool(ca_file) as pool:
            device = Device(
                flash=flash,
                geometry=geometry,
                transport=HttpTransport(pool, url, token),
                clock=RealClock(),
                entropy=RealEntropy(),
                on_change=heed,
            )
            await device.run()
    except FlashFault as fault:
        raise Failure(f"The flash in {state} cannot be used: {fault}.") from fault
