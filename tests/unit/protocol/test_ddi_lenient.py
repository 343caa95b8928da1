"""DDI bodies as boards really send them: text is read leniently, a command strictly, and nothing else is ever raised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import ddi


def feedback(details, *, start=b""):
    return (
        start + b'{"id":"1","status":{"result":{"finished":"failure"},"execution":"closed","details":' + details + b"}}"
    )


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        (b'["a","\x1b[31mred","z"]', ("a", r"\x1b[31mred", "z")),
        (b'["a","10%\r20%\x07","z"]', ("a", r"10%\x0d20%\x07", "z")),
        (b'["a","K\xfchler \xc3","z"]', ("a", r"K\xfchler \xc3", "z")),
        (b'["a\tb","\xc3\xbc \xff"]', ("a\tb", "ü \\xff")),
        (rb'["a","\ud83d","z"]', ("a", r"\ud83d", "z")),
        (b"null", ()),
        (b'"one"', ("one",)),
        (b'["a",null,7,{"b":[1]}]', ("a", "7", '{"b":[1]}')),
        (b"7", ("7",)),
    ],
)
def test_whatever_the_text_is_the_state_counts_and_the_rest_of_the_lines(details, lines):
    status = ddi.parse_feedback(feedback(details)).status
    assert (status.execution, status.result.finished, status.lines) == ("closed", "failure", lines)


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\r\n ", b"\xef\xbb\xbf\n"])
def test_a_byte_order_mark_and_white_space_are_skipped(start):
    assert ddi.parse_feedback(feedback(b"[]", start=start)).status.execution == "closed"


@pytest.mark.parametrize("result", [b"null", b'{"finished":null}', b'{"progress":null}', b"{}"])
def test_a_result_that_says_nothing_is_none(result):
    raw = b'{"status":{"execution":"closed","result":' + result + b"}}"
    assert ddi.parse_feedback(raw).status.result.finished == "none"


@pytest.mark.parametrize(
    "raw",
    [b'{"status":{"execution":"\xfcclosed"}}', b'{"status":{"execution":null}}', b'{"status":null}', b"\xff", b""]
    + [b'{"status":{"execution":"closed","result":{"finished":"perhaps"},"details":["\x1b"]}}'],
)
def test_a_command_is_read_strictly(raw):
    with pytest.raises(Invalid):
        ddi.parse_feedback(raw)


def test_attributes_that_are_no_text_are_left_out_and_named_and_the_others_stay():
    raw = b'{"mode":null,"data":{"VIN":"J","slot":1,"dev":true,"load":0.5,"serial":null,"more":[],"place":"K\xfche"}}'
    found = ddi.parse_config_data(raw)
    assert found.data == {"VIN": "J", "slot": "1", "dev": "true", "load": "0.5", "place": r"K\xfche"}
    assert (found.mode, found.left_out) == ("merge", ("serial", "more"))


def test_a_confirmation_is_read_as_a_feedback_is():
    found = ddi.parse_confirmation(b'{"confirmation":"denied","details":["K\xfche",null]}')
    assert (found.confirmation, found.lines) == ("denied", (r"K\xfche",))


@given(
    st.binary(max_size=200), st.sampled_from([feedback(b'["X"]'), b'{"data":{"a":"X"}}', b'{"confirmation":"denied"}'])
)
def test_no_bytes_raise_anything_else_and_what_is_read_can_be_stored(junk, body):
    for raw in (junk, body.replace(b"X", junk)):
        for parse in (ddi.parse_feedback, ddi.parse_config_data, ddi.parse_confirmation):
            try:
                found = parse(raw)
            except Invalid:
                continue
            texts = found.data.values() if isinstance(found, ddi.ConfigData) else ()
            lines = found.status.lines if isinstance(found, ddi.Feedback) else getattr(found, "lines", ())
            assert all("\0" not in text for text in lines if raw is not junk) or b"\\u0000" in raw
            json.dumps([*texts, *lines]).encode()
