"""Faults of disks: which errors are one, and what a store says of itself meanwhile."""

import errno

import pytest

from fleetvisor.ground.disk import Condition, fault_of, probe


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (OSError(errno.EROFS, "Read-only file system"), "read_only"),
        (OSError(errno.EIO, "Input/output error"), "io_error"),
        (OSError(errno.EACCES, "Permission denied"), "unusable"),
        (OSError(errno.ENOTDIR, "Not a directory"), "unusable"),
        (OSError(errno.EEXIST, "File exists"), "unusable"),
        (OSError(errno.ENOENT, "No such file or directory"), None),
        (OSError(errno.ECONNRESET, "Connection reset"), None),
        (OSError("without a number"), None),
        (ValueError("Generic LocalFileSystem error: No space left on device (os error 28)"), "disk_full"),
        (ValueError("Generic LocalFileSystem error (os error 104)"), None),
    ],
)
def test_an_error_says_what_is_wrong_with_the_disk(error, fault):
    assert fault_of(error) == fault


def test_a_fault_lasts_until_a_write_succeeds_and_damage_remains():
    condition = Condition()
    condition.note(None)
    assert condition.fault is None
    condition.note("disk_full")
    assert condition.fault == "disk_full"
    condition.wrote()
    assert condition.fault is None
    condition.note("damaged")
    condition.note("read_only")
    condition.wrote()
    assert condition.fault == "damaged"


def test_a_probe_leaves_nothing_behind_and_raises_what_is_no_fault_of_a_disk(tmp_path, monkeypatch):
    assert probe(tmp_path) is None
    assert list(tmp_path.iterdir()) == []

    def short(**_options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("fleetvisor.ground.disk.tempfile.TemporaryFile", short)  # no disk is full on demand
    with pytest.raises(OSError, match="Too many"):
        probe(tmp_path)


def test_a_probe_of_what_is_no_folder_says_so(tmp_path):
    assert probe(tmp_path / "gone") == "unusable"
    (tmp_path / "file").touch()
    assert probe(tmp_path / "file") == "unusable"


def test_a_probe_of_a_full_disk_says_so(tmp_path, monkeypatch):
    def full(_descriptor, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fleetvisor.ground.disk.os.write", full)  # no disk is full on demand
    assert probe(tmp_path) == "disk_full"
