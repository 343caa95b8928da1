"""Requests made by chance from the device API's own document: never a 5xx, never an answer off its schema."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.native_world import BASE
from tests.server import running

from fleetvisor.channel.native.openapi import document

pytestmark = [pytest.mark.service, pytest.mark.slow]

schema = schemathesis.openapi.from_dict(document(BASE, items_max=64))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    # each case is also sent with a wrong token: those are to be told from 429s
    patient = {f"FLEETVISOR_LIMIT_FAILED_PROOFS{of}_MAX": "1000000" for of in ("", "_PER_ADDRESS")}
    with running(tmp_path_factory.mktemp("schema") / "data", env=patient) as server:
        yield server


@pytest.fixture(scope="module")
def token(server):
    import httpx

    answer = httpx.post(server.url + "/v1/Devices", auth=server.auth, verify=_trust(server))
    return answer.json()["device_token"]


def _trust(server):
    import ssl

    return ssl.create_default_context(cafile=server.ca_file)


@schema.parametrize()
@settings(
    max_examples=int(os.environ.get("FLEETVISOR_TEST_EXAMPLES", "25")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_no_request_gets_a_5xx_or_an_answer_off_the_schema(case, server, token):
    case.headers.pop("Prefer", None)  # held polls have tests of their own, and take their time
    case.call_and_validate(
        base_url=server.url,
        headers={"Authorization": f"Bearer {token}"},
        verify=server.ca_file,
        timeout=20,
        # JSON Schema calls 9e18 an integer; an agent that writes one so gets a clear 400
        excluded_checks=[positive_data_acceptance],
    )
