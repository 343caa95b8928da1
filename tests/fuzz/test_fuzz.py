"""Every parser of bytes takes or refuses whatever comes, in bounded time, memory and output. ``make nightly`` goes on for an hour."""

import tempfile
from pathlib import Path

import pytest
from tests.fuzz.engine import CORPUS, Finding, Target, check, fuzz
from tests.fuzz.targets import TARGETS

SECONDS = 2.0


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_the_bytes_a_parser_ends_within_its_bounds(target, tmp_path):
    assert fuzz(target, tmp_path, seed=1, seconds=SECONDS) > len(target.seeds())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_seeds_are_there_and_the_corpus_is_small(target):
    assert target.seeds()
    files = list((CORPUS / target.name).glob("*"))
    assert sum(path.stat().st_size for path in files) < 64 << 10


def test_every_folder_of_the_corpus_is_a_targets():
    assert {path.name for path in CORPUS.iterdir()} <= {target.name for target in TARGETS}


@pytest.mark.parametrize(
    ("parse", "what"),
    [
        (lambda data, _: 1 // 0, "ZeroDivisionError"),
        (lambda data, _: sum(range(20_000_000)), "processor time|makes"),
        (lambda data, _: len(bytearray(64 << 20)) and 0, "of memory"),
        (lambda data, _: 2 << 20, "makes 2097152 bytes"),
    ],
)
def test_a_broken_bound_is_found(parse, what):
    with tempfile.TemporaryDirectory() as folder, pytest.raises(Finding, match=what):
        broken = Target("broken", parse, lambda: [b"x"], ())
        check(broken, b"x", Path(folder), traced="memory" in what)
