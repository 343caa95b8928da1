"""``fleetvisor seal``: the keys under which secrets lie sealed in the database.

Works on the data directory itself, not through the API: a sealing key never travels, and no running server loads
one anew. Deliberately asks for nothing: breaking off loses nothing, and the older key's file stays.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from fleetvisor.cli.options import ExitCode, Failure, Session, Usage, command, group

app = group("Renew the key that seals secrets at rest.")


@command(app, "rotate")
def rotate(
    session: Session,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="The nodes' postgresql://… database; FLEETVISOR_SERVE_DATABASE if absent.",
            show_default=False,
        ),
    ] = None,
    seal_key_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--seal-key-file",
            metavar="FILE",
            help="With --database: the new key first, then the older ones.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Seal every secret anew with a new key, so that the older one opens nothing in the database any more.

    With --data: stop the server first (exit status 5 while one runs); a key is made in DIR/keys. With --database the
    nodes may go on: give each of them both files first, the new one in front.
    """
    from fleetvisor.db.database import DatabaseFault
    from fleetvisor.pki.seal import SealFault
    from fleetvisor.reality import RealClock, RealEntropy
    from fleetvisor.server.files import DataDirectory, StartFault
    from fleetvisor.server.rotation import rotate_local, rotate_shared
    from fleetvisor.settings import variable_of

    clock, entropy = RealClock(), RealEntropy()
    if database is None and seal_key_file:
        database = os.environ.get(variable_of("database"))  # so that its password stands in no list of processes
    if database is not None:
        if not seal_key_file:
            raise Usage("--database needs --seal-key-file: the new key first, then the older ones.")
        work = rotate_shared(database, tuple(seal_key_file), clock=clock, entropy=entropy)
    else:
        if session.data is None or seal_key_file:
            raise Usage("Give --data DIR, or --database and --seal-key-file.", "See: fleetvisor seal rotate --help")
        if not (session.data / "keys").is_dir():
            raise Failure(f"{session.data} is not a data directory of a server.", None, ExitCode.NOT_FOUND)
        work = rotate_local(DataDirectory(session.data), clock=clock, entropy=entropy)
    try:
        done = asyncio.run(work)
    except (StartFault, SealFault, DatabaseFault) as fault:
        raise Failure(str(fault), None, fault_code(session.data)) from fault
    retired = [str(path) for path in done.retired_files]
    if session.out.json:
        session.out.record({"key_file": str(done.key_file), "resealed": done.resealed, "retired_files": retired})
        return
    session.out.note(f"{done.key_file} seals now; {done.resealed} value(s) were sealed anew.")
    for path in retired:
        session.out.note(f"Only backups made before now need {path}: keep it with them, or remove it.")


def fault_code(data: Path | None) -> ExitCode:
    """Return the exit status of a rotation that could not start: a conflict while a server holds the directory."""
    from fleetvisor.cli.doctor import locked

    return ExitCode.CONFLICT if data is not None and locked(data / "lock") else ExitCode.FAILED
