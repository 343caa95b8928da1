"""Log lines are JSON, carry the request's id, and never a secret."""

import json
import logging

import pytest
import structlog

from fleetvisor.obs import logs


@pytest.fixture(autouse=True)
def undo():
    """Put logging back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def logged(capsys, act):
    """Log what ``act`` logs, and give the lines."""
    logs.configure("info")
    act(structlog.get_logger())
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_json_object_with_the_requests_id(capsys):
    with structlog.contextvars.bound_contextvars(request_id="RQ1"):
        [line] = logged(capsys, lambda log: log.info("app.created", app_sid="KA1"))
    assert line["event"] == "app.created"
    assert (line["request_id"], line["app_sid"], line["level"]) == ("RQ1", "KA1", "info")
    assert line["timestamp"].endswith("Z")


def test_what_libraries_log_has_the_same_form(capsys):
    def act(_):
        logging.getLogger("asyncio").error("task %s failed", "x", exc_info=ValueError("bad"))
        logging.getLogger("asyncio").info("chatter")

    [line] = logged(capsys, act)
    assert line["event"] == "task x failed"
    assert "ValueError: bad" in line["exception"]


def test_secrets_are_dropped_by_name_at_any_depth(capsys):
    secrets = {"auth_token": "t0p", "device_token": "t0p", "Authorization": "t0p", "value": "t0p"}
    nested = {"secret": "t0p", "deep": {"password": "t0p", "fine": 1}}
    [line] = logged(capsys, lambda log: log.info("oops", **secrets, nested=nested, key="GREETING"))
    assert "t0p" not in json.dumps(line)
    assert line["nested"] == {"secret": logs.DROPPED, "deep": {"password": logs.DROPPED, "fine": 1}}
    assert line["key"] == "GREETING"


def test_less_grave_lines_are_left_out(capsys):
    assert logged(capsys, lambda log: log.debug("chatter")) == []
