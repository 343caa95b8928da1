"""How a device's request for values is answered."""

from fleetvisor.features.configs import rules
from fleetvisor.features.configs.model import Owner
from fleetvisor.protocol.native import FetchItem

OWNER = Owner("AC1", "UV1")


def test_each_item_is_answered_in_the_order_of_the_request_repeated_ones_too():
    items = [
        FetchItem("device", "secret", "k"),
        FetchItem("account", "config", "k"),
        FetchItem("device", "config", "none"),
        FetchItem("account", "config", "k"),
    ]
    values = {("UV1", "secret", "k"): "s", ("AC1", "config", "k"): ""}
    results = rules.answer(items, OWNER, values)
    assert [(result.scope, result.store, result.key) for result in results] == [
        (item.scope, item.store, item.key) for item in items
    ]
    assert [(result.result, result.value) for result in results] == [
        ("ok", "s"),
        ("ok", ""),
        ("key_not_found", None),
        ("ok", ""),
    ]


def test_a_value_that_could_not_be_opened_is_the_servers_error_not_a_missing_key():
    items = [FetchItem("device", "secret", "k")]
    (result,) = rules.answer(items, OWNER, {("UV1", "secret", "k"): None})
    assert (result.result, result.value) == ("server_error", None)


def test_scope_and_store_name_four_different_places():
    places = {
        rules.place(FetchItem(scope, store, "k"), OWNER)
        for scope in ("account", "device")
        for store in ("config", "secret")
    }
    assert places == {
        ("AC1", "config", "k"),
        ("AC1", "secret", "k"),
        ("UV1", "config", "k"),
        ("UV1", "secret", "k"),
    }


def test_a_secret_is_bound_to_account_owner_and_key():
    """No two of these may be the same bytes, wherever the letters fall."""
    bound = [("AC1", "UV1", "k"), ("AC2", "UV1", "k"), ("AC1", "UV2", "k"), ("AC1", "UV1", "kk"), ("AC1", "UV1k", "")]
    assert len({rules.context(*place) for place in bound}) == len(bound)
