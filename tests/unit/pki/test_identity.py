"""Tokens are long, ours to recognise, and kept as a hash only."""

from hashlib import sha256

from fleetvisor.pki.identity import new_hex_token, new_token, same, token_hash
from fleetvisor.reality import RealEntropy


def test_a_token_has_its_prefix_and_256_bits_in_safe_characters():
    token = new_token(RealEntropy(), "fvd_")
    assert token.startswith("fvd_")
    assert len(token) == 4 + 43
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert token != new_token(RealEntropy(), "fvd_")


def test_an_auth_token_looks_as_the_vendors_did():
    token = new_hex_token(RealEntropy())
    assert len(token) == 32
    assert int(token, 16) >= 0
    assert token == token.lower()


def test_only_the_sha_256_of_a_token_is_kept():
    assert token_hash("fvd_x") == sha256(b"fvd_x").digest()
    assert same(token_hash("a"), token_hash("a"))
    assert not same(token_hash("a"), token_hash("b"))


def test_what_no_utf_8_can_hold_is_hashed_like_anything_else():
    assert len(token_hash("\ud800")) == 32
