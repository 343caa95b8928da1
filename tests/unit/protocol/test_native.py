"""protocol/native: the bodies of the native device API as they stand on the wire.

NOTE: each JSON text below is what devices in the field send or expect. A test that fails here is a broken device.
"""

import msgspec
import pytest

from fleetvisor.protocol import native
from fleetvisor.protocol.lifecycle import State

DIGEST = "ab" * 32
APP = "KA" + "0" * 32
JOURNAL = "0" * 32


def report(**fields):
    plain = {"journal": JOURNAL, "sequence": 1, "running": {"manifest": DIGEST}}
    return msgspec.json.encode(plain | fields)


def test_the_desired_state_is_rendered_as_published():
    layer = native.DesiredLayer(DIGEST, 3, DIGEST, "internal", 0, 65536)
    desired = native.Desired(
        app=native.DesiredApp(APP, DIGEST, 7, (layer,)),
        logging=native.DesiredLogging(enabled=True, until="2026-11-23T00:00:00Z"),
        restart=2,
        poll_interval_s=60,
        policy=native.Policy(politeness_s=1, connection_grace_s=2, check_in_s=3),
    )
    assert msgspec.json.encode(desired) == (
        b'{"app":{"sid":"%(app)s","manifest":"%(digest)s","update":7,"layers":[{"sha256":"%(digest)s","size_bytes":3,'
        b'"measurement":"%(digest)s","region":"internal","region_start":0,"region_size":65536}]},'
        b'"logging":{"enabled":true,"until":"2026-11-23T00:00:00Z"},"restart":2,"poll_interval_s":60,'
        b'"policy":{"politeness_s":1,"connection_grace_s":2,"check_in_s":3}}'
    ) % {b"app": APP.encode(), b"digest": DIGEST.encode()}


def test_a_desired_state_is_read_as_it_was_rendered():
    desired = native.Desired(
        app=None,
        logging=native.DesiredLogging(enabled=False, until=None),
        restart=0,
        poll_interval_s=60,
        policy=native.Policy(),
    )
    assert msgspec.json.decode(msgspec.json.encode(desired), type=native.Desired) == desired


def test_the_smallest_report_is_taken():
    """What a device leaves out has its default."""
    taken = msgspec.json.decode(report(), type=native.Report)
    assert taken.update is None
    assert (taken.boot_count, taken.wake_reason, taken.running.app) == (0, 0, None)


def test_a_report_from_a_newer_device_is_taken():
    """Fields that this server does not know are ignored, in the report and in what it holds."""
    body = report(
        battery=3, running={"manifest": DIGEST, "slot": 2}, update={"number": 4, "state": "testing", "speed": 9}
    )
    taken = msgspec.json.decode(body, type=native.Report)
    assert taken.update == native.UpdateReport(number=4, state=State.TESTING)


@pytest.mark.parametrize(
    "fields",
    [
        {"journal": "short"},
        {"journal": JOURNAL.replace("0", "G")},
        {"sequence": 0},
        {"sequence": 2**63},
        {"sequence": "1"},
        {"running": None},
        {"running": {"manifest": DIGEST.upper()}},
        {"running": {"app": "UV" + "0" * 32}},
        {"update": {"number": 0, "state": "pending"}},
        {"update": {"number": 1, "state": "happy"}},
        {"update": {"number": 1, "state": "failed", "error_code": -1}},
        {"boot_count": 2**32},
    ],
)
def test_a_report_off_its_schema_is_refused(fields):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(report(**fields), type=native.Report)


def test_a_fetch_names_scope_store_and_key():
    body = b'{"items":[{"scope":"device","store":"secret","key":"k"}]}'
    assert msgspec.json.decode(body, type=native.FetchRequest).items == (native.FetchItem("device", "secret", "k"),)
    for wrong in (b'{"scope":"fleet","store":"secret","key":"k"}', b'{"scope":"device","key":"k"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(b'{"items":[%s]}' % wrong, type=native.FetchRequest)
