"""``fleetvisor serve``: runs the server, and says how to call it.

What is printed holds no secret: supervisors keep what programs print. Deliberately no settings of its own; each
option is one of ``settings``, which the environment may give too.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from fleetvisor.cli.options import Data, ExitCode, Failure, Json, Options, Quiet, Usage, plain_words, read_path
from fleetvisor.cli.output import Output

if TYPE_CHECKING:
    from pydantic import ValidationError

    from fleetvisor.server.run import Started

_FIELD: Final = re.compile(r'field "(\w+)"')
_SEE: Final = "See: fleetvisor serve --help"

_Host = Annotated[
    str | None, typer.Option(metavar="HOST", help="The address to listen on, 127.0.0.1 if absent; 0.0.0.0: all.")
]
_Port = Annotated[int | None, typer.Option(help="The port, 8443 if absent; 0 takes a free one.")]
_PublicUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="How devices and people call the server: https://name[:port].")
]
_TlsCert = Annotated[
    Path | None,
    typer.Option(
        parser=read_path, metavar="FILE", help="Your own certificate chain (PEM), instead of one from the local CA."
    ),
]
_TlsKey = Annotated[
    Path | None, typer.Option(parser=read_path, metavar="FILE", help="The private key of --tls-cert (PEM).")
]
_TlsCheck = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", help="Seconds between checks of the certificate's files; 3600 if absent."),
]
_NewCa = Annotated[
    bool,
    typer.Option("--new-ca", help="Replace a CA that is not valid now; then install the new ca.pem on all devices."),
]
_DatabaseUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="postgresql://…; if absent, SQLite in the data directory.")
]
_SealKeyFile = Annotated[
    list[Path] | None,
    typer.Option(
        parser=read_path,
        metavar="FILE",
        help="32 random bytes that seal secrets; may be repeated, the first one seals.",
    ),
]
_BlobDirectory = Annotated[
    Path | None,
    typer.Option(parser=read_path, metavar="DIR", help="Where firmware bytes are kept; all nodes share it."),
]
_BlobsLost = Annotated[
    bool,
    typer.Option("--blobs-lost", help="Start even if firmware bytes are lost; then upload the damaged Apps again."),
]
_TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NETWORK",
        help="A proxy that the server trusts to state clients' addresses (X-Forwarded-For); may be repeated.",
    ),
]
_Audiences = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="A URL for which devices' signed tokens are valid; the public URL if absent; may be repeated.",
    ),
]
_Hsts = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", help="How long browsers must use HTTPS for the public name; 0 if absent: off."),
]
_MetricsPort = Annotated[
    int | None, typer.Option(metavar="PORT", help="Serve metrics for Prometheus on this port of 127.0.0.1.")
]
_LogLevel = Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error; info if absent.")]


def serve(
    ctx: typer.Context,
    data: Data = None,
    host: _Host = None,
    port: _Port = None,
    public_url: _PublicUrl = None,
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    tls_check_s: _TlsCheck = None,
    new_ca: _NewCa = False,
    database: _DatabaseUrl = None,
    seal_key_file: _SealKeyFile = None,
    blobs: _BlobDirectory = None,
    blobs_lost: _BlobsLost = False,
    trusted_proxy: _TrustedProxy = None,
    audiences: _Audiences = None,
    hsts_s: _Hsts = None,
    metrics_port: _MetricsPort = None,
    log_level: _LogLevel = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the server: HTTPS only, one process, until SIGTERM (exit status 0) or Ctrl-C (130).

    Here --data is the data directory, made at first start. Logs are JSON lines on standard error.
    """
    options = ctx.ensure_object(Options)
    options.heed(data, json, quiet)
    given: dict[str, Any] = {
        "data": options.data,
        "host": host,
        "port": port,
        "public_url": public_url,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_check_s": tls_check_s,
        "new_ca": new_ca or None,
        "database": database,
        "seal_key_file": tuple(seal_key_file) if seal_key_file else None,
        "blobs": blobs,
        "blobs_lost": blobs_lost or None,
        "trusted_proxy": tuple(trusted_proxy) if trusted_proxy else None,
        "audiences": tuple(audiences) if audiences else None,
        "hsts_s": hsts_s,
        "metrics_port": metrics_port,
        "log_level": log_level,
    }
    _run(
        {name: value for name, value in given.items() if value is not None},
        Output(json=options.json, quiet=options.quiet),
    )


def _run(given: dict[str, Any], out: Output) -> None:
    import signal

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from fleetvisor.server.files import Occupied, StartFault
    from fleetvisor.server.run import serve as run_server
    from fleetvisor.settings import Settings, check_variables, limits_from, variable_of

    try:
        check_variables()
        settings = Settings(**given)
        limits = limits_from()
    except ValidationError as error:
        raise _usage(error, given) from None
    except SettingsError as error:  # of a variable that is not plain text
        name = _FIELD.search(str(error))
        variable = variable_of(name.group(1)) if name else "A variable of the environment"
        raise Usage(f'{variable} must be a JSON list of texts in double quotes, such as ["A", "B"].', _SEE) from None
    except ValueError as error:
        raise Usage(f"{error}.", _SEE) from None
    try:
        told = run_server(settings, limits, lambda started: announce(started, out))
    except StartFault as fault:
        code = ExitCode.CONFLICT if isinstance(fault, Occupied) else ExitCode.FAILED
        raise Failure(str(fault), None, code) from fault
    if told is signal.SIGINT:
        raise typer.Exit(ExitCode.INTERRUPTED)


def announce(started: "Started", out: Output) -> None:
    """Print how to call a server that is ready: data on standard output, warnings beside it."""
    if out.json:
        told = {
            "base_url": started.base_url,
            "local_url": started.local_url,
            "account_sid": started.account.account_sid,
            "credentials": str(started.data.credentials),
            "ca_file": str(started.data.ca_file) if started.authority else None,
            "ca_fingerprint": started.authority.fingerprint if started.authority else None,
            "warnings": list(started.warnings),
        }
        out.line(msgspec.json.encode(told))  # one line: who reads it waits for its end while the server runs
        return
    for line in () if out.quiet else how_to_call(started):
        out.write(line)
    for warning in started.warnings:
        out.warn(warning)


def program() -> str:
    """Return how a shell calls this program: by its name, or by its path where the name is not on ``PATH``."""
    called = Path(sys.argv[0])
    if shutil.which("fleetvisor") is None and called.name == "fleetvisor":
        return shlex.quote(str(called.absolute()))
    return "fleetvisor"


def how_to_call(started: "Started") -> list[str]:
    """Return the lines that say how to call a server."""
    lines = [f"Fleetvisor serves {started.base_url}", f"  data directory: {started.data.root}"]
    if started.authority is not None:
        lines += [f"  CA certificate: {started.data.ca_file}", f"  its SHA-256:    {started.authority.fingerprint}"]
    ca = ' --cacert "$FLEETVISOR_CA_FILE"' if started.authority is not None else ""
    return [
        *lines,
        "",
        "In another shell, set up your programs:",
        f'  eval "$({program()} env --data {shlex.quote(str(started.data.root))})"',
        "then, with curl:",
        f'  curl{ca} -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" "$FLEETVISOR_URL/v1/Devices"',
        "or with twilio-python (twilio==9.6.3):",
        "  from twilio.rest import Client",
        "  client = Client()",
        f'  client.microvisor.base_url = "{started.base_url}"',
        "",
    ]


def _usage(error: "ValidationError", given: Mapping[str, Any]) -> Usage:
    """Say which option, or which variable of the environment, is wrong; ``given`` are the options."""
    from fleetvisor.settings import variable_of

    faults: list[str] = []
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        option = f"--{name.replace('_', '-')}"
        if fault["type"] == "missing":
            faults.append(f"{option} is missing")
        else:
            message = plain_words(fault["msg"])
            faults.append(f"{option if name in given else variable_of(name)}: {message}" if name else message)
    return Usage("; ".join(faults) + ".", _SEE)
