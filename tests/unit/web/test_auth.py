"""Credentials as headers carry them."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.web.auth import Basic, NoCredentials, parse_basic, parse_bearer


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC"])
def test_basic_carries_a_name_and_a_password(scheme):
    assert parse_basic(scheme + b" " + b64encode(b"AC1:tok:en")) == Basic("AC1", "tok:en")
    assert parse_basic(scheme + b"  " + b64encode("ä:ö".encode()) + b" ") == Basic("ä", "ö")
    assert parse_basic(scheme + b" " + b64encode(b":")) == Basic("", "")


@pytest.mark.parametrize("header", [None, b"", b"Basic", b"Basic ", b"Bearer x", b"Basicx", b"x"])
def test_nothing_usable_is_no_credentials(header):
    with pytest.raises(NoCredentials):
        parse_basic(header)


@pytest.mark.parametrize(
    "header",
    [
        b"Basic x",
        b"Basic ====",
        b"Basic " + b64encode(b"none"),
        b"Basic " + b64encode(b"\xff:"),
        b"Basic a b",
        b"Basic \xe9",
    ],
)
def test_garbage_is_refused(header):
    with pytest.raises(Unauthenticated):
        parse_basic(header)


def test_bearer_carries_a_token():
    assert parse_bearer(b"Bearer fvd_x") == "fvd_x"
    assert parse_bearer(b"bearer  fvd_x ") == "fvd_x"
    for header in (None, b"Bearer", b"Basic x"):
        with pytest.raises(NoCredentials):
            parse_bearer(header)
    with pytest.raises(Unauthenticated):
        parse_bearer(b"Bearer \xff")


@given(st.binary(max_size=40))
def test_no_header_is_a_fault(header):
    for parse in (parse_basic, parse_bearer):
        for raw in (header, b"Basic " + header, b"Bearer " + header):
            try:
                parse(raw)
            except Unauthenticated:
                continue
