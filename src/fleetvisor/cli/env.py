"""``fleetvisor env``: the environment variables by which other programs find and trust the server."""

import shlex

from fleetvisor.cli.options import Session
from fleetvisor.client.credentials import Server


def env(session: Session) -> None:
    """Print export lines for a shell: eval "$(fleetvisor env --data DIR)".

    FLEETVISOR_* are for this program, TWILIO_* for the vendor's clients, REQUESTS_CA_BUNDLE and NODE_EXTRA_CA_CERTS
    for the libraries under them. REQUESTS_CA_BUNDLE takes the place of all other authorities for Python programs.
    """
    variables = variables_of(session.server)
    if session.out.json:
        session.out.record(variables)
        return
    for name, value in variables.items():
        session.out.write(f"export {name}={shlex.quote(value)}")


def variables_of(server: Server) -> dict[str, str]:
    """Return the variables; those of the CA are absent when the system's own authorities judge the certificate."""
    variables = {
        "FLEETVISOR_URL": server.base_url,
        "FLEETVISOR_ACCOUNT_SID": server.account_sid,
        "FLEETVISOR_AUTH_TOKEN": server.auth_token,
        "TWILIO_ACCOUNT_SID": server.account_sid,
        "TWILIO_AUTH_TOKEN": server.auth_token,
    }
    if server.ca_file is not None:
        for name in ("FLEETVISOR_CA_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
            variables[name] = str(server.ca_file)
    return variables
