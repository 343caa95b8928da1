"""DDI's bodies: what clients send is read, what they get keeps the forms that they insist on."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import ddi
from fleetvisor.protocol.lifecycle import DeviceAnswer

URL = "https://fleet.example.com:8443/DEFAULT/controller/v1/UV" + "0" * 32
ARTIFACT = ddi.Artifact(
    "KA" + "0" * 32 + ".swu", "a" * 40, "b" * 32, "c" * 64, 1 << 30,
    f"{URL}/softwaremodules/KA{'0' * 32}/artifacts/KA{'0' * 32}.swu",
)  # fmt: skip


@given(st.integers())
def test_sleep_is_always_hours_minutes_seconds_of_two_digits(seconds):
    text = ddi.sleep(seconds)
    hours, minutes, rest = map(int, text.split(":"))
    assert len(text) == 8
    assert (hours * 60 + minutes) * 60 + rest == min(max(seconds, 1), 24 * 3600 - 1)


@pytest.mark.parametrize(("details", "lines"), [('["a","b"]', ("a", "b")), ('"a"', ("a",)), ("[]", ())])
def test_details_are_lines_or_one_line(details, lines):
    assert (
        ddi.parse_feedback(f'{{"status":{{"execution":"closed","details":{details}}}}}'.encode()).status.lines == lines
    )
    assert ddi.parse_confirmation(f'{{"confirmation":"denied","details":{details}}}'.encode()).lines == lines


def test_a_poll_names_what_is_offered_and_comes_back_soon():
    poll = json.loads(ddi.render_poll(URL, ddi.Poll(3600, cancel=7, installed=6, wants_data=True), "abc"))
    assert poll["config"]["polling"]["sleep"] == "00:00:05"
    assert {name: link["href"].removeprefix(URL) for name, link in poll["_links"].items()} == {
        "cancelAction": "/cancelAction/7",
        "installedBase": "/installedBase/6",
        "configData": "/configData",
    }


def test_a_poll_with_nothing_open_keeps_the_interval():
    poll = json.loads(ddi.render_poll(URL, ddi.Poll(3600, installed=6), "abc"))
    assert poll["config"]["polling"]["sleep"] == "01:00:00"


def test_an_interval_shorter_than_the_busy_one_stays():
    assert b'"00:00:02"' in ddi.render_poll(URL, ddi.Poll(2, deploy=1), "abc")


def test_every_answer_to_a_zephyr_device_fits_its_1100_bytes():
    poll = ddi.Poll(60, deploy=0x7FFFFFFF, installed=0x7FFFFFFE, wants_data=True)
    deployment = ddi.render_deployment(0x7FFFFFFF, "attempt", "n" * 64, "1.2.3+build", (ARTIFACT,))
    assert len(ddi.render_poll(URL, poll, "12345678")) < 1100
    assert len(deployment) < 1100
    href = json.loads(ddi.render_poll(URL, poll, "12345678"))["_links"]["deploymentBase"]["href"]
    assert len(href.partition("/controller/v1/")[2].partition("/")[2]) < 50
    assert len(ARTIFACT.href.removeprefix("https://fleet.example.com:8443")) < 200


def test_ids_are_texts_that_parse_as_32_bit_integers():
    assert json.loads(ddi.render_cancel(9)) == {"id": "9", "cancelAction": {"stopId": "9"}}
    assert json.loads(ddi.render_deployment(9, "forced", "n", "1", ()))["id"] == "9"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("2147483647", 0x7FFFFFFF)])
def test_numbers_are_read(text, number):
    assert ddi.parse_number(text) == number


@pytest.mark.parametrize("text", ["0", "01", "-1", "2147483648", "99999999999", "1.0", "x", "²", "١"])
def test_what_is_no_number_is_none(text):
    assert ddi.parse_number(text) is None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"8","time":"20261123T120000","status":{"result":{"finished":"none"},"execution":"proceeding","details":["a"]}}',
        b'{"id":8,"status":{"execution":"proceeding","result":{"finished":"none","progress":{"cnt":1,"of":2}},"code":200,"details":["a"]}}',
        b'{"timestamp":1700000000000,"status":{"execution":"proceeding","details":["a"]}}',
    ],
)
def test_the_forms_of_feedback_that_clients_send_are_read(raw):
    status = ddi.parse_feedback(raw).status
    assert (status.execution, status.result.finished, status.details) == ("proceeding", "none", ("a",))


SAID = {
    ("closed", "success"): ("finished", "canceled"),
    ("closed", "none"): ("finished", "canceled"),
    ("closed", "failure"): ("failed", "failed"),
    ("proceeding", "none"): ("proceeding", "proceeding"),
    ("proceeding", "failure"): ("proceeding", "proceeding"),
    ("download", "none"): ("proceeding", "proceeding"),
    ("resumed", "none"): ("proceeding", "proceeding"),
    ("downloaded", "none"): ("downloaded", "proceeding"),
    ("scheduled", "none"): ("scheduled", "proceeding"),
    ("rejected", "none"): ("refused", "refused"),
    ("rejected", "failure"): ("refused", "refused"),
    ("canceled", "none"): ("canceled", "canceled"),
    ("canceled", "failure"): ("canceled", "canceled"),
}


@pytest.mark.parametrize(("words", "answers"), SAID.items())
def test_execution_and_result_are_one_answer_to_an_update_and_one_to_a_cancel(words, answers):
    status = ddi.Status(words[0], ddi.Result(words[1]))
    assert (ddi.answer_of(status), ddi.cancel_answer_of(status)) == tuple(map(DeviceAnswer, answers))


def test_every_execution_has_its_answer():
    assert {execution for execution, _ in SAID} == set(get_args(ddi.Execution))


def test_config_data_merges_where_it_names_no_mode():
    raw = b'{"id":"","time":"","status":{"result":{"finished":"success"},"execution":"closed"},"data":{"hw":"1"}}'
    assert ddi.parse_config_data(raw) == ddi.ConfigData({"hw": "1"}, "merge")


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(raw):
    for parse in (ddi.parse_feedback, ddi.parse_config_data, ddi.parse_confirmation):
        try:
            parse(raw)
        except Invalid as problem:
            assert problem.detail.startswith("The body cannot be read")


@pytest.mark.parametrize(
    ("parse", "body", "said"),
    [
        (ddi.parse_feedback, '{"status":{"execution":"close"}}', "status.execution must be one of closed, proceeding,"),
        (
            ddi.parse_feedback,
            '{"status":{"execution":"closed","result":{"finished":"ok"}}}',
            "status.result.finished must be one of success, failure, none, not 'ok'.",
        ),
        (ddi.parse_config_data, '{"data":{},"mode":"add"}', "mode must be one of merge, replace, remove, not 'add'."),
        (ddi.parse_config_data, '{"data":{},"mode":""}', "mode must be one of merge, replace, remove, not ''."),
        (ddi.parse_confirmation, '{"confirmation":"yes"}', "confirmation must be one of confirmed, denied, not 'yes'."),
    ],
)
def test_a_word_that_may_not_stand_there_is_refused_with_those_that_may(parse, body, said):
    with pytest.raises(Invalid) as caught:
        parse(body.encode())
    assert said in caught.value.detail


def test_a_wrong_word_is_shown_in_part():
    with pytest.raises(Invalid) as caught:
        ddi.parse_confirmation(b'{"confirmation":"%s"}' % (b"y" * 9000))
    assert len(caught.value.detail) < 200
