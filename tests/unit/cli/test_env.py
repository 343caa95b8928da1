"""The environment variables for other programs."""

from pathlib import Path

from fleetvisor.cli.env import env, variables_of
from fleetvisor.cli.options import Options, Session
from fleetvisor.client.credentials import Server


def test_without_a_ca_file_nobody_is_told_to_trust_one():
    server = Server(base_url="https://mv.example.com", account_sid="AC", auth_token="t")
    assert "REQUESTS_CA_BUNDLE" not in variables_of(server)


def test_values_are_quoted_for_the_shell(capsys):
    session = Session(Options())
    session.server = Server(
        base_url="https://localhost", account_sid="AC", auth_token="t", ca_file=Path("/a b/$(touch x)/ca.pem")
    )
    env(session)
    assert "export FLEETVISOR_CA_FILE='/a b/$(touch x)/ca.pem'\n" in capsys.readouterr().out
