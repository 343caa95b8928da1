"""``fleetvisor serve``: runs the server, and says how to call it."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fleetvisor.server.files import StartFault
from fleetvisor.server.run import Started
from fleetvisor.server.run import serve as run_server
from fleetvisor.settings import Settings


def serve(
    data: Annotated[Path, typer.Option(help="The data directory, made at first start.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 8443,
    public_url: Annotated[str | None, typer.Option(help="The URL that clients use: https://name[:port].")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate chain of your own (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key (PEM).")] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://…; SQLite in the data directory if absent.")
    ] = None,
    seal_key_file: Annotated[
        list[Path] | None, typer.Option(help="A sealing key; may be repeated, the first seals.")
    ] = None,
    blobs: Annotated[Path | None, typer.Option(help="The directory of firmware bytes; shared by all nodes.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on 127.0.0.1 there.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the server: HTTPS only, one process."""
    try:
        settings = Settings(
            data=data,
            host=host,
            port=port,
            public_url=public_url,
            tls_cert=tls_cert,
            tls_key=tls_key,
            database=database,
            seal_key_file=tuple(seal_key_file or ()),
            blobs=blobs,
            metrics_port=metrics_port,
            log_level=log_level,
        )
        run_server(settings, announce)
    except ValidationError as error:
        for fault in error.errors():
            option = "--" + str(fault["loc"][0]).replace("_", "-")
            typer.echo(f"fleetvisor: {option}: {fault['msg'].removeprefix('Value error, ')}", err=True)
        raise typer.Exit(2) from None
    except StartFault as error:
        typer.echo(f"fleetvisor: {error}", err=True)
        raise typer.Exit(1) from None


def announce(started: Started) -> None:
    """Print how to call a server that is ready."""
    directory = shlex.quote(str(started.data.root))
    sid, base = started.account.account_sid, started.base_url
    ca = f" --cacert {shlex.quote(str(started.data.ca_file))}" if started.authority else ""
    lines = [
        f"Fleetvisor is ready at {base}  (credentials: {started.data.credentials})",
        "",
        "  curl:",
        f'    eval "$(fleetvisor env --data {directory})"',
        f'    curl{ca} -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" {base}/v1/Devices',
        "",
        "  twilio-python (9.6.3):",
        "    from twilio.rest import Client",
        f'    client = Client("{sid}", os.environ["TWILIO_AUTH_TOKEN"])',
        f'    client.microvisor.base_url = "{base}"',
        "",
    ]
    if started.authority:
        lines.append(f"  The CA's SHA-256 fingerprint: {started.authority.fingerprint}")
    lines += [f"  Warning: {warning}" for warning in started.warnings]
    typer.echo("\n".join(lines), err=True)
