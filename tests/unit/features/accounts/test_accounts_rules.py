"""Credentials are judged by one comparison of hashes; names of keys by a few rules."""

import pytest

from fleetvisor.features.accounts import rules
from fleetvisor.ground.errors import Invalid
from fleetvisor.pki.identity import token_hash


def test_a_password_proves_only_its_own_hash():
    assert rules.proves("right", token_hash("right"))
    assert not rules.proves("wrong", token_hash("right"))
    assert not rules.proves("", token_hash("right"))


def test_nothing_proves_a_name_that_does_not_exist():
    """Not even what hashes to the stand-in that makes the cost the same."""
    assert not rules.proves("anything", None)
    assert not rules.proves("\ud800", None)


@pytest.mark.parametrize("name", ["", "CI of the factory", "n" * 64, "ключ"])
def test_a_friendly_name_is_text_and_may_be_empty(name):
    assert rules.check_friendly_name(name) == name


@pytest.mark.parametrize("name", ["n" * 65, "a\0", "a\nb", "\ud800"])
def test_a_friendly_name_that_breaks_a_rule_is_refused(name):
    with pytest.raises(Invalid, match="FriendlyName"):
        rules.check_friendly_name(name)


def test_a_sealed_token_is_bound_to_its_account():
    assert rules.auth_token_context("AC1") != rules.auth_token_context("AC2")
