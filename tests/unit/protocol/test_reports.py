"""A native report: what is optional in it never costs its state."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol.native import Report
from fleetvisor.protocol.reports import parse_report

HASH = "ab" * 32
REPORT = {
    "journal": "0" * 32,
    "sequence": 7,
    "running": {"manifest": HASH},
    "update": {"number": 3, "state": "failed"},
}


def read(**changed):
    return parse_report(json.dumps(REPORT | changed).encode())


def test_a_good_report_leaves_nothing_out():
    report, left_out = read(boot_count=4, wake_reason=2)
    assert (report.boot_count, report.wake_reason, left_out) == (4, 2, ())


@pytest.mark.parametrize("value", [-1, 1 << 32, 1.5, "many", [], {}, True, 10**4000, float("nan")])
@pytest.mark.parametrize("name", ["boot_count", "wake_reason"])
def test_a_bad_number_is_left_out_and_named(name, value):
    report, left_out = read(**{name: value})
    assert getattr(report, name) == 0
    assert report.sequence == 7
    assert left_out == (name,)


@pytest.mark.parametrize("name", ["bytes_done", "bytes_total", "error_code"])
def test_a_bad_number_of_an_update_is_left_out_and_its_state_counts(name):
    report, left_out = read(update={"number": 3, "state": "failed", name: "x"})
    assert (report.update.state, getattr(report.update, name), left_out) == ("failed", 0, (f"update.{name}",))


def test_null_is_absent_and_not_told():
    report, left_out = read(
        boot_count=None, wake_reason=None, update={"number": 3, "state": "failed", "error_code": None}
    )
    assert (report.boot_count, report.wake_reason, report.update.error_code, left_out) == (0, 0, 0, ())


@pytest.mark.parametrize("app", ["KAx", 7, "x" * 5000, ["KA"]])
def test_the_name_of_what_runs_is_optional_beside_its_manifest_and_strict_without(app):
    report, left_out = read(running={"manifest": HASH, "app": app})
    assert (report.running.manifest, report.running.app, left_out) == (HASH, None, ("running.app",))
    with pytest.raises(Invalid, match=r"running\.app"):
        read(running={"app": app})


@pytest.mark.parametrize("junk", [b"K\xfche", b"\x1b[31m", rb"\ud800", b"x" * 50_000])
def test_bad_text_in_a_field_that_nobody_knows_costs_nothing(junk):
    body = json.dumps(REPORT | {"note": "JUNK"}).encode().replace(b"JUNK", junk)
    report, left_out = parse_report(b"\xef\xbb\xbf" + body)
    assert (report.sequence, left_out) == (7, ())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sequence": "7"}, "sequence"),
        ({"sequence": 10**30}, "sequence"),
        ({"journal": "short"}, "journal"),
        ({"running": None}, "running"),
        ({"running": {"manifest": HASH.upper()}}, "manifest"),
        ({"update": {"number": 3, "state": "flying"}}, "state"),
        ({"update": {"number": "3", "state": "failed"}}, "number"),
        ({"update": []}, "update"),
    ],
)
def test_the_state_is_read_strictly_also_beside_a_bad_number(changed, field):
    for bad in ({}, {"boot_count": "x"}):
        with pytest.raises(Invalid, match=field):
            read(**changed, **bad)


@given(st.binary(max_size=100), st.sampled_from(["journal", "boot_count", "running", "update"]))
def test_no_bytes_raise_anything_else(junk, name):
    for raw in (junk, json.dumps(REPORT | {name: "JUNK"}).encode().replace(b"JUNK", junk)):
        try:
            report, _ = parse_report(raw)
        except Invalid as problem:
            assert problem.detail.startswith("The body cannot be read")
        else:
            assert isinstance(report, Report)
