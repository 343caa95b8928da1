"""Settings: what is refused, which URLs and names follow from them, and what an operator is warned of."""

import pytest
from pydantic import ValidationError

from fleetvisor.ground.limits import Limits
from fleetvisor.settings import Settings, check_variables, host_that_twilio_node_calls, limits_from


def settings(**given):
    return Settings(**{"data": "fleet", **given})


@pytest.mark.parametrize(
    ("host", "public", "base", "local"),
    [
        ("127.0.0.1", None, "https://127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("mv.example.com", None, "https://mv.example.com:8443", "https://mv.example.com:8443"),
        ("0.0.0.0", None, "https://localhost:8443", "https://127.0.0.1:8443"),
        ("::", None, "https://localhost:8443", "https://127.0.0.1:8443"),
        ("::1", None, "https://[::1]:8443", "https://[::1]:8443"),
        ("[::1]", None, "https://[::1]:8443", "https://[::1]:8443"),
        ("0.0.0.0", "https://mv.example.com", "https://mv.example.com", "https://127.0.0.1:8443"),
        ("127.0.0.1", "https://mv.example.com:443/", "https://mv.example.com:443", "https://127.0.0.1:8443"),
        ("127.0.0.1", "https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", "https://127.0.0.1:8443"),
    ],
)
def test_the_urls_follow_from_the_address_and_the_public_url(host, public, base, local):
    made = settings(host=host, public_url=public)
    assert (made.base_url(8443), made.local_url(8443)) == (base, local)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://mv.example.com", "https"),
        ("mv.example.com", "https"),
        ("https://", "host"),
        ("https://mv.example.com/fleet", "path"),
        ("https://mv.example.com?x=1", "path"),
        ("https://mv.example.com?", "path"),
        ("https://mv.example.com#x", "path"),
        ("https://a:b@mv.example.com", "credentials"),
        ("https://mv.example.com:99999", "[Pp]ort"),
        ("https://mv.example.com:0", "port"),
        ("https://mv example.com", "no host name"),
        ("https://bücher.example", "xn--"),
        ("https://1.2.3", "no host name"),
    ],
)
def test_a_public_url_that_clients_cannot_build_on_is_refused(url, why):
    with pytest.raises(ValidationError, match=why):
        settings(public_url=url)


def test_the_certificate_names_whatever_the_server_may_be_called():
    assert settings().certificate_names() == ("127.0.0.1", "localhost")
    assert settings(host="0.0.0.0").certificate_names() == ("localhost", "127.0.0.1")
    made = settings(host="10.1.2.3", public_url="https://MV.Example.com")
    assert made.certificate_names() == ("mv.example.com", "10.1.2.3", "localhost", "127.0.0.1")


@pytest.mark.parametrize(
    "given",
    [
        {"tls_cert": "a.pem"},
        {"tls_key": "a.key"},
        {"database": "postgresql://x/y"},
        {"database": "postgresql://x/y", "seal_key_file": ["k"]},
        {"database": "postgresql://x/y", "blobs": "b"},
        {"database": "mysql://x/y", "blobs": "b", "seal_key_file": ["k"]},
        {"port": 65536},
        {"port": -1},
        {"host": "not a host"},
        {"log_level": "loud"},
        {"unknown": 1},
    ],
)
def test_what_cannot_work_is_refused(given):
    with pytest.raises(ValidationError):
        settings(**given)


def test_nodes_share_database_sealing_key_and_blobs():
    made = settings(database="postgresql://x/y", blobs="b", seal_key_file=["new", "old"])
    assert [path.name for path in made.seal_key_file] == ["new", "old"]


def test_the_environment_gives_what_flags_do_not(monkeypatch):
    monkeypatch.setenv("FLEETVISOR_SERVE_PORT", "9443")
    monkeypatch.setenv("FLEETVISOR_SERVE_HOST", "0.0.0.0")
    assert (settings(host="::1").host, settings().host, settings().port) == ("::1", "0.0.0.0", 9443)


def test_listening_on_all_addresses_without_a_public_url_is_warned_of():
    [warning] = settings(host="0.0.0.0").warnings(8443)
    assert "--public-url https://HOST:8443" in warning
    assert settings(host="0.0.0.0", public_url="https://mv.example.com").warnings(8443) == []
    assert settings().warnings(8443) == []


def test_a_public_name_that_twilio_node_rewrites_is_warned_of():
    [warning] = settings(public_url="https://mv.local").warnings(8443)
    assert "mv.local.mv.local" in warning
    [warning] = settings(public_url="https://a.b.c.d.example.com").warnings(8443)
    assert "a.b.c.example.com" in warning


@pytest.mark.parametrize(
    ("host", "called"),
    [
        ("localhost", "localhost"),
        ("mv.local", "mv.local.mv.local"),
        ("mv.example.com", "mv.example.com"),
        ("mv.lab.example.com", "mv.lab.example.com"),
        ("a.b.c.example.com", "a.b.c.example.com"),
        ("a.b.c.d.example.com", "a.b.c.example.com"),
        ("10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.1.0.1", "0.1.0.1"),
        ("::1", "::1"),
        ("a.b.example.com.example.com", "a.b.example.com"),
    ],
)
def test_the_host_that_twilio_node_calls(host, called):
    """The reference, section 0.9, was found by running its getHostname; so were these."""
    assert host_that_twilio_node_calls(host) == called


def test_every_limit_is_a_setting():
    assert limits_from({}) == Limits()
    assert limits_from({"FLEETVISOR_LIMIT_PAGE_SIZE_MAX": "10", "PATH": "x"}).page_size_max == 10


@pytest.mark.parametrize("text", ["", "-1", "ten", "1e3", "²", "9" * 16])
def test_a_limit_that_is_no_whole_number_is_refused(text):
    with pytest.raises(ValueError, match="FLEETVISOR_LIMIT_PAGE_SIZE_MAX"):
        limits_from({"FLEETVISOR_LIMIT_PAGE_SIZE_MAX": text})


def test_a_limit_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="FLEETVISOR_LIMIT_PAGES"):
        limits_from({"FLEETVISOR_LIMIT_PAGES": "1"})


def test_a_variable_that_is_no_setting_is_a_slip_that_is_named():
    check_variables(
        {"FLEETVISOR_SERVE_PORT": "1", "fleetvisor_serve_tls_cert": "a", "FLEETVISOR_URL": "x", "HOME": "/"}
    )
    with pytest.raises(ValueError, match="FLEETVISOR_SERVE_TSL_CERT"):
        check_variables({"FLEETVISOR_SERVE_TSL_CERT": "a"})


SHARED = {"seal_key_file": ("k",), "blobs": "b"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/fleet",
        "postgres://u:p%2Fw%40@db:5432/fleet",
        "postgresql://u:p@w@[::1]:5432/fleet",
        "postgresql://a:5432,b:5433,c/fleet?target_session_attrs=primary",
        "postgresql:///fleet?host=/run/postgresql",
    ],
)
def test_database_urls_that_postgresql_knows_are_taken(url):
    assert settings(database=url, **SHARED).database == url


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p/w@db/fleet", "postgresql://db:5x/fleet", "postgresql://[::1/fleet"]
    + ["postgresql://a:5432,b:65536/fleet"],
)
def test_a_database_url_that_cannot_be_taken_apart_is_refused(url):
    with pytest.raises(ValueError, match="write / as %2F"):
        settings(database=url, **SHARED)
