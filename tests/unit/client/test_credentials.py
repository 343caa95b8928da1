"""Where the client finds its server."""

import json

import pytest

from fleetvisor.client.credentials import NoServer, checked_url, find, from_directory, from_environment

WHOLE = {
    "FLEETVISOR_URL": "https://mv.example.com",
    "FLEETVISOR_ACCOUNT_SID": "AC" + "1" * 32,
    "FLEETVISOR_AUTH_TOKEN": "token",
    "FLEETVISOR_CA_FILE": "/ca.pem",
}


def write(directory, **changes):
    content = {
        "base_url": "https://mv.example.com:8443",
        "account_sid": "AC" + "0" * 32,
        "auth_token": "token",
        "ca_file": "/data/ca.pem",
        "local_url": "https://127.0.0.1:8443",
    } | changes
    (directory / "credentials.json").write_text(json.dumps(content))


def test_a_data_directory_says_whom_to_call_and_whose_name_the_certificate_bears(tmp_path):
    write(tmp_path)
    server = from_directory(tmp_path)
    assert server.call_url == "https://127.0.0.1:8443"
    assert server.host == "mv.example.com"
    assert str(server.ca_file) == "/data/ca.pem"


def test_without_a_ca_file_the_systems_authorities_judge(tmp_path):
    write(tmp_path, ca_file=None)
    server = from_directory(tmp_path)
    assert server.ca_file is None
    assert server.tls().verify_mode.name == "CERT_REQUIRED"


def test_a_missing_credentials_file_says_how_to_start_the_server(tmp_path):
    with pytest.raises(NoServer) as caught:
        from_directory(tmp_path)
    assert f"fleetvisor serve --data {tmp_path}" in caught.value.hint


def test_a_damaged_credentials_file_is_refused(tmp_path):
    (tmp_path / "credentials.json").write_text('{"base_url": 3}')
    with pytest.raises(NoServer, match="damaged"):
        from_directory(tmp_path)


def test_the_data_directory_wins_over_the_environment(tmp_path):
    write(tmp_path)
    assert find(tmp_path, WHOLE).call_url == "https://127.0.0.1:8443"
    assert find(None, WHOLE).call_url == "https://mv.example.com"


def test_nothing_named_is_told_apart_from_something_unusable():
    with pytest.raises(NoServer) as caught:
        find(None, {})
    assert not caught.value.named


@pytest.mark.parametrize("missing", ["FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN"])
def test_a_half_set_environment_names_what_is_missing(missing):
    with pytest.raises(NoServer, match=missing):
        from_environment({name: value for name, value in WHOLE.items() if name != missing})


def test_the_token_is_not_in_what_is_shown_of_a_server():
    assert "token" not in repr(from_environment(WHOLE)).replace("auth_token", "")


@pytest.mark.parametrize(
    "url",
    [
        "http://mv.example.com",
        "https://",
        "mv.example.com",
        "https://mv.example.com/",
        "https://mv.example.com/v1",
        "https://mv.example.com?x=1",
        "https://user:secret@mv.example.com",
        "https://mv.example.com:port",
        "https://mv.example.com:99999",
    ],
)
def test_an_address_is_https_host_and_port_and_nothing_more(url):
    with pytest.raises(NoServer):
        checked_url(url, "FLEETVISOR_URL")


@pytest.mark.parametrize("url", ["https://localhost", "https://10.0.0.1:8443", "https://[::1]:8443"])
def test_an_address_of_that_form_is_taken_as_it_is(url):
    assert checked_url(url, "FLEETVISOR_URL") == url


def test_a_ca_file_that_is_missing_or_none_is_told_before_any_connection(tmp_path):
    for name in ("missing.pem", "credentials.json"):
        write(tmp_path, ca_file=str(tmp_path / name))
        with pytest.raises(NoServer, match=name):
            from_directory(tmp_path).tls()
