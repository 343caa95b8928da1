"""A log line that cannot be written is counted, and neither raises nor waits."""

import fcntl
import io
import json
import logging
import os
import sys
import threading

import pytest
import structlog

from fleetvisor.obs import logs
from fleetvisor.obs.sink import Sink


@pytest.fixture(autouse=True)
def undo():
    """Put logging back as it was."""
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raising


class Hostile:
    """A value that cannot even be shown."""

    def __repr__(self):
        raise RuntimeError("no")


def test_a_line_that_a_full_disk_refuses_is_counted_and_does_not_raise(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)  # the process's own
        sink = logs.configure()
        structlog.get_logger().error("job.failed", job="sweep")
        logging.getLogger("asyncio").error("task failed")
        try:
            raise ValueError("bad")
        except ValueError:
            structlog.get_logger().exception("request.failed")
        assert sink.lost == 3


def test_a_line_to_a_closed_stream_is_counted_and_does_not_raise():
    stream = io.StringIO()
    sink = Sink(stream)
    stream.close()
    sink.write("a\n")
    assert sink.lost == 1


def test_a_line_without_a_stream_is_counted_and_does_not_raise():
    sink = Sink(None)
    sink.write("a\n")
    assert sink.lost == 1


def test_a_reader_that_does_not_read_costs_lines_and_no_time():
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 16384)
    with os.fdopen(write, "w") as stream:
        sink = Sink(stream)
        writing = threading.Thread(target=lambda: [sink.write("x" * 700 + "\n") for _ in range(50)], daemon=True)
        writing.start()
        writing.join(20)
        assert not writing.is_alive(), "the sink waits for a reader"
        lost = sink.lost
        assert 10 < lost < 50
        os.read(read, 8192)
        sink.write("after\n")
        assert sink.lost == lost
        assert os.read(read, 16384).endswith(b"\nafter\n"), "a line after a torn one begins on its own"
    os.close(read)


def test_lines_reach_a_file_whole(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        sink = Sink(stream)
        sink.write("ä" * 2000 + "\n")
        sink.write("\udcff\n")
    assert (tmp_path / "log").read_text() == "ä" * 2000 + "\n" + "\\udcff\n"


@pytest.mark.parametrize("value", [Hostile(), {1: Hostile()}, "\udcff"])
def test_a_value_that_cannot_be_rendered_costs_the_values_and_not_the_work(capsys, value):
    logs.configure()
    structlog.get_logger().warning("device.odd", value_of=value)
    logging.getLogger("asyncio").error("about %s", value)
    first = json.loads(capsys.readouterr().err.splitlines()[0])
    assert first["event"] == "device.odd"


def test_a_line_of_a_library_that_does_not_fit_its_arguments_raises_nothing(capsys):
    logs.configure()
    logging.getLogger("asyncio").error("%d things", "many")
    assert "Traceback" not in capsys.readouterr().err
