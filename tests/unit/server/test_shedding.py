"""Which connections are ended when places are short."""

from ipaddress import ip_network

from fleetvisor.server.shedding import Open, beyond_the_share
from fleetvisor.web.address import Addresses


def held(peer, count, silent_ms=0):
    return [Open(number, peer, silent_ms + number) for number in range(count)]


def chosen(found, *, places=100, most=10_000, proxies=()):
    return beyond_the_share(found, places=places, most=most, addresses=Addresses([ip_network(one) for one in proxies]))


def test_an_address_keeps_a_quarter_of_the_places_and_loses_what_is_silent_longest():
    lost = chosen([*held("192.0.2.1", 70), *held("192.0.2.2", 25)])
    assert {one.peer for one in lost} == {"192.0.2.1"}
    assert [one.silent_ms for one in lost] == list(range(25, 70))


def test_a_smaller_bound_holds_only_for_who_holds_more_than_a_quarter():
    assert len(chosen(held("192.0.2.1", 70), most=10)) == 60
    assert chosen(held("192.0.2.1", 25), most=10) == []


def test_addresses_of_one_ipv6_network_count_as_one_and_mapped_ones_as_ipv4():
    lost = chosen([*held("2001:db8::1", 20), *held("2001:db8::ffff:1", 20)])
    assert len(lost) == 15
    assert len(chosen([*held("::ffff:192.0.2.1", 20), *held("192.0.2.1", 20)])) == 15


def test_trusted_proxies_have_no_share():
    assert chosen(held("10.0.0.7", 99), proxies=["10.0.0.0/8"]) == []
    assert chosen(held("::ffff:10.0.0.7", 99), proxies=["10.0.0.0/8"]) == []
