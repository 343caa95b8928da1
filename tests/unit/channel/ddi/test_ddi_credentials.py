"""Credentials of DDI devices as headers carry them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.channel.ddi.credentials import parse_gateway_token, parse_target_token
from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.web.auth import NoCredentials


def test_a_target_token_is_one_device_s():
    assert parse_target_token(b"TargetToken fvd_x") == "fvd_x"
    assert parse_target_token(b"targettoken  fvd_x ") == "fvd_x"
    for header in (None, b"TargetToken", b"Bearer x", b"GatewayToken x"):
        with pytest.raises(NoCredentials):
            parse_target_token(header)
    with pytest.raises(Unauthenticated):
        parse_target_token(b"TargetToken \xff")


def test_a_gateway_token_is_told_from_other_schemes():
    assert parse_gateway_token(b"GatewayToken fvg_x") == "fvg_x"
    assert parse_gateway_token(b"gatewaytoken   fvg_x ") == "fvg_x"
    for header in (None, b"", b"TargetToken x", b"GatewayTokenx"):
        assert parse_gateway_token(header) is None
    for header in (b"GatewayToken ", b"GatewayToken \xff"):
        with pytest.raises(Unauthenticated):
            parse_gateway_token(header)


@given(st.binary(max_size=40))
def test_no_header_is_a_fault(header):
    for parse in (parse_target_token, parse_gateway_token):
        for raw in (header, b"TargetToken " + header, b"GatewayToken " + header):
            try:
                parse(raw)
            except Unauthenticated:
                continue
