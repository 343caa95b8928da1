"""Bytes that were judged, held as files: in memory, and where that cannot be, in a directory that goes."""

import os

import pytest

from fleetvisor.server.held import DESCRIPTORS, Held


@pytest.fixture(params=["memory", "directory"])
def folder(request, tmp_path):
    if request.param == "directory":
        return tmp_path / "none"
    if not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    return DESCRIPTORS


def test_what_is_held_reads_the_same_again_and_again_and_is_gone_at_the_end(folder):
    kept = Held(b"first", b"second", folder=folder)
    for _ in range(2):
        assert [path.resolve().read_bytes() for path in kept.paths] == [b"first", b"second"]
    assert bool(kept.descriptors) is (folder is DESCRIPTORS)
    paths = kept.paths
    kept.close()
    assert not any(path.exists() for path in paths)


def test_a_directory_is_nobody_elses(tmp_path):
    kept = Held(b"key", folder=tmp_path / "none")
    assert kept.paths[0].parent.stat().st_mode & 0o077 == 0
    kept.close()
