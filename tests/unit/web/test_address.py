"""Clients' addresses: the peer's word only, unless the peer is a trusted proxy; and then the last hop that is none."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.web.address import Addresses, network_of

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.1")]
BEHIND = Addresses(PROXIES)


def scope(peer, *headers):
    return {"client": (peer, 1), "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


def test_without_a_proxy_the_headers_are_ignored():
    forged = (("x-forwarded-for", "198.51.100.9"), ("forwarded", "for=198.51.100.9"), ("x-forwarded-for", "x y"))
    for addresses in (Addresses(), BEHIND):
        assert addresses.of(scope("203.0.113.5", *forged)) == "203.0.113.5"
    assert Addresses().of({"client": None, "headers": []}) == "unknown"


@pytest.mark.parametrize(
    ("name", "value", "client"),
    [
        ("x-forwarded-for", "198.51.100.9", "198.51.100.9"),
        ("x-forwarded-for", "1.1.1.1, 198.51.100.9, 10.1.2.3", "198.51.100.9"),
        ("x-forwarded-for", "10.9.9.9,10.1.2.3", "10.9.9.9"),
        ("x-forwarded-for", "198.51.100.9:4711", "198.51.100.9"),
        ("x-forwarded-for", "[2001:DB8::1]:4711", "2001:db8::1"),
        ("x-forwarded-for", "::ffff:198.51.100.9", "198.51.100.9"),
        ("x-forwarded-for", "unknown", "unknown"),
        ("forwarded", "for=198.51.100.9", "198.51.100.9"),
        ("forwarded", 'For="[2001:db8:cafe::17]:4711";proto=https;by=10.0.0.1, for=10.2.3.4', "2001:db8:cafe::17"),
        ("forwarded", 'for=_hidden, for="_secret,;x"', None),
        ("forwarded", "for=_hidden;host=a", "_hidden"),
        ("forwarded", "proto=https", "unknown"),
    ],
)
@pytest.mark.parametrize("peer", ["10.0.0.1", "fd00::5", "192.0.2.1", "::ffff:10.0.0.1"])
def test_a_proxys_header_names_the_client(name, value, client, peer):
    if client is None:
        with pytest.raises(Invalid):
            BEHIND.of(scope(peer, (name, value)))
    else:
        assert BEHIND.of(scope(peer, (name, value))) == client


def test_a_proxy_without_a_header_is_the_client():
    assert BEHIND.of(scope("10.0.0.1", ("host", "x"))) == "10.0.0.1"


@pytest.mark.parametrize(
    "headers",
    [
        (("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "1.1.1.1")),
        (("forwarded", "for=1.1.1.1"), ("forwarded", "for=2.2.2.2")),
        (("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")),
        (("x-forwarded-for", "1.1.1.1 2.2.2.2"),),
        (("x-forwarded-for", ""),),
        (("x-forwarded-for", "1.1.1.1," * 70 + "1.1.1.1"),),
        (("forwarded", "for=1.1.1.1;for=2.2.2.2"),),
        (("forwarded", "for=999.1.1.1"),),
    ],
)
def test_what_contradicts_itself_is_refused(headers):
    with pytest.raises(Invalid):
        BEHIND.of(scope("10.0.0.1", *headers))


def test_both_headers_may_agree():
    headers = (("x-forwarded-for", "1.1.1.1"), ("forwarded", 'for="1.1.1.1:80"'))
    assert BEHIND.of(scope("10.0.0.1", *headers)) == "1.1.1.1"


@given(st.sampled_from(["forwarded", "x-forwarded-for"]), st.text(st.characters(max_codepoint=255), max_size=60))
def test_whatever_a_client_puts_before_the_proxys_word_changes_nothing(name, forged):
    """A proxy appends: what stands to the left of its hop came from the client."""
    own = "for=198.51.100.9" if name == "forwarded" else "198.51.100.9"
    try:
        found = BEHIND.of(scope("10.0.0.1", (name, f"{forged}, {own}")))
    except Invalid:
        return
    assert found == "198.51.100.9" or '"' in forged


def test_a_socket_of_both_families_shows_ipv4_clients_as_what_they_are():
    """With ``--host ::`` the peer is ``::ffff:…``: rates, proxies and events must see the IPv4 address."""
    assert Addresses().of(scope("::ffff:203.0.113.5")) == "203.0.113.5"
    assert BEHIND.of(scope("::ffff:10.1.2.3", ("x-forwarded-for", "198.51.100.9"))) == "198.51.100.9"
    assert Addresses().of(scope("2001:db8::1")) == "2001:db8::1"


def test_mapped_addresses_do_not_share_one_network():
    assert network_of("::ffff:203.0.113.5") == network_of("203.0.113.5") != network_of("::ffff:203.0.113.6")
    assert network_of("2001:db8::1") == network_of("2001:db8::2") != network_of("2001:db8:0:1::1")
    assert network_of("unknown") == "unknown"
