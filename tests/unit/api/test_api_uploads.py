"""The multipart reader alone, against anything that may come."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.yardstick import slowness

from fleetvisor.api import uploads
from fleetvisor.features.apps.model import Upload
from fleetvisor.ground.errors import Problem
from fleetvisor.ground.limits import Limits
from fleetvisor.reality import RealClock, inline
from fleetvisor.web.requests import Request

LIMITS = Limits(bundle_bytes_max=1000)
HEAD = b'--b\r\nContent-Disposition: form-data; name="File"\r\n\r\n'


def problem_of(body, spooled, **parts):
    """Give the problem that a body meets, or nothing; any other error comes out."""
    try:
        asyncio.run(receive(body, spooled, **parts))
    except Problem as problem:
        return problem
    return None


async def receive(body, spooled, *, cuts=(), content_type=b"multipart/form-data; boundary=b"):
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    pieces = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]

    async def message():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"content-type", content_type)],
    }
    return await uploads.receive(Request(scope, message, clock=RealClock()), spooled, LIMITS, inline)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


def spool(folder: Path) -> Path:
    path = folder / "spooled"
    path.unlink(missing_ok=True)
    return path


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 1000), max_size=8), preamble=st.binary(max_size=40))
@example(data=b"\r\n--", cuts=[3], preamble=b"")
@example(data=b"\r\n--c", cuts=list(range(100)), preamble=b"--\r\n-")
def test_a_file_arrives_as_it_was_however_it_is_cut(folder, data, cuts, preamble):
    if b"\r\n--b" in b"\r\n" + data + b"\r\n" or b"\r\n--b" in b"\r\n" + preamble + b"\r\n":
        return
    before = preamble + b"\r\n" if preamble else b""
    body = before + HEAD + data + b'\r\n--b\r\nContent-Disposition: form-data; name="UniqueName"\r\n\r\nn\r\n--b--\r\n'
    path = spool(folder)
    assert asyncio.run(receive(body, path, cuts=cuts)) == Upload("n")
    assert path.read_bytes() == data


@given(
    body=st.lists(
        st.sampled_from(
            [
                b"--b",
                b"\r\n",
                b"--",
                b"--b--",
                HEAD,
                b"Content-Disposition",
                b": ",
                b"form-data; name=",
                b'"',
                b"x",
                b"\xff",
                b"\0",
                b";",
                b"=",
            ]
        )
        | st.binary(max_size=20),
        max_size=25,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=4),
)
def test_any_other_body_is_a_problem_and_no_fault(folder, body, cuts):
    problem = problem_of(body, spool(folder), cuts=cuts)
    assert problem is None or (problem.status in {400, 413, 415} and problem.detail)


@given(st.binary(max_size=60))
def test_any_content_type_is_a_problem_and_no_fault(folder, content_type):
    for raw in (
        content_type,
        b"multipart/form-data; " + content_type,
        b"multipart/form-data; boundary=" + content_type,
    ):
        problem = problem_of(b"x", spool(folder), content_type=raw)
        assert problem is not None
        assert problem.status in {400, 415}


@pytest.mark.parametrize("unit", [b"-", b"\r", b"\r\n", b"\r\n-", b"\r\n--", b"\r\n--" + b"b" * 69, b"b", b"\0"])
async def test_no_file_takes_its_reader_100_ms_for_each_mib(folder, unit):
    content = (unit * (1 << 20))[: 1 << 20]
    edge = b"b" * 70
    head = b"--" + edge + b'\r\nContent-Disposition: form-data; name="File"\r\n\r\n'
    body = head + content + b"\r\n--" + edge + b"--\r\n"
    taken = []
    for _ in range(3):
        path = spool(folder)
        started = time.process_time()
        await receive(
            body, path, cuts=range(0, len(body), 16 << 10), content_type=b"multipart/form-data; boundary=" + edge
        )
        took = time.process_time() - started
        taken.append(took if took < 0.1 else took / slowness())
        assert path.read_bytes() == content
        if taken[-1] < 0.1:
            break
    assert min(taken) < 0.1
