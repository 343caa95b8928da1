"""Bytes that were judged, held as files: in memory, and where that cannot be, in a directory that goes."""

import os

import pytest

from fleetvisor.server import held
from fleetvisor.server.held import Held


@pytest.fixture(params=["memory", "directory"])
def way(request, monkeypatch, tmp_path):
    if request.param == "directory":
        monkeypatch.setattr(held, "_DESCRIPTORS", tmp_path / "none")
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    return request.param


def test_what_is_held_reads_the_same_again_and_again_and_is_gone_at_the_end(way):
    kept = Held(b"first", b"second")
    for _ in range(2):
        assert [path.resolve().read_bytes() for path in kept.paths] == [b"first", b"second"]
    assert bool(kept.descriptors) is (way == "memory")
    paths = kept.paths
    kept.close()
    assert not any(path.exists() for path in paths)


def test_a_directory_is_nobody_elses(monkeypatch, tmp_path):
    monkeypatch.setattr(held, "_DESCRIPTORS", tmp_path / "none")
    kept = Held(b"key")
    assert kept.paths[0].parent.stat().st_mode & 0o077 == 0
    kept.close()
