"""The data directory: private, whole, held by one process, and the same at every start."""

import json
import os
import stat
import subprocess
import sys
import textwrap

import pytest

from fleetvisor.cli.checks import Verdict
from fleetvisor.cli.doctor import directory_checks
from fleetvisor.cli.doctor_certificates import authority_check
from fleetvisor.ground.clock import Millis
from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.server.certificates import name_warnings
from fleetvisor.server.files import Credentials, DataDirectory, Occupied, StartFault, write_private

NAMES = ("localhost", "127.0.0.1")
HOLDER = """
    import sys
    from pathlib import Path
    from fleetvisor.server.files import DataDirectory
    DataDirectory(Path(sys.argv[1])).hold()
    print("held", flush=True)
    sys.stdin.read()
"""


class FixedClock:
    def __init__(self, now):
        self.moment = now

    def now(self):
        return Millis(self.moment)


@pytest.fixture
def data(tmp_path):
    return DataDirectory(tmp_path / "fleet")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_and_its_folders_are_the_owners_only(data):
    for folder in (data.root, data.keys, data.tls, data.spool):
        assert mode(folder) == 0o700


def test_an_empty_directory_that_others_may_read_is_closed_to_them(tmp_path):
    tmp_path.chmod(0o755)
    DataDirectory(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StartFault, match="holds other files"):
        DataDirectory(tmp_path)
    assert mode(tmp_path) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_where_no_directory_can_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartFault, match="cannot be made"):
        DataDirectory(tmp_path / "file" / "fleet")


def test_a_private_file_is_0600_whatever_the_umask_and_what_was_there_before(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_file_is_on_the_disk_before_its_name_is_and_the_name_before_anybody_relies_on_it(tmp_path, monkeypatch):
    """The order is: fsync of the file, rename, fsync of the directory."""
    story = []
    real_fsync, real_rename = os.fsync, type(tmp_path).rename

    def fsync(descriptor):
        story.append("fsync " + ("dir" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        real_fsync(descriptor)

    def rename(path, target):
        story.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)  # the order of what reaches the disk is seen nowhere else
    monkeypatch.setattr(type(tmp_path), "rename", rename)  # as above
    write_private(tmp_path / "secret", b"new")
    assert story == ["fsync file", "rename", "fsync dir"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    write_private(path, b"old")

    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)  # the order of what reaches the disk is seen nowhere else
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_second_process_is_refused_by_name_until_the_first_is_gone(data):
    """The process id in the message is the one that holds the lock, also after a kill without warning."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(data.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Occupied, match=f"process {holder.pid}"):
            data.hold()
        holder.kill()
    data.hold()
    assert (data.root / "lock").read_text() == f"{os.getpid()}\n"
    data.release()
    data.release()
    data.hold()
    data.release()


def test_a_second_process_is_refused_also_when_somebody_removed_the_lock_file(data):
    data.hold()
    (data.root / "lock").unlink()
    other = DataDirectory(data.root)
    with pytest.raises(Occupied, match="lock file was removed: stop that server"):
        other.hold()
    data.release()
    other.hold()
    other.release()


def test_sealing_keys_are_numbered_and_the_highest_comes_first(data):
    assert data.seal_keys() == []
    for _ in range(11):
        data.make_seal_key(RealEntropy())
    (data.keys / "notes.txt").write_text("not a key")
    names = [path.name for path in data.seal_keys()]
    assert names[:3] == ["seal-11.key", "seal-10.key", "seal-9.key"]
    assert len(names) == 11
    assert all(mode(path) == 0o600 and path.stat().st_size == 32 for path in data.seal_keys())


def test_the_ca_is_made_once(data):
    first = data.authority(RealClock())
    assert data.authority(RealClock()).pem == first.pem
    assert mode(data.tls / "ca.key") == 0o600
    assert data.publish(first) == data.ca_file
    assert data.ca_file.read_bytes() == first.pem
    assert b"PRIVATE" not in data.ca_file.read_bytes()


def test_a_damaged_ca_is_never_replaced(data):
    """Every device trusts the old one: only its file brings them back."""
    data.authority(RealClock())
    path = data.tls / "ca.key"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StartFault, match="restore"):
        data.authority(RealClock())


def test_the_certificate_is_kept_until_it_is_due(data):
    clock = FixedClock(RealClock().now())
    authority = data.authority(clock)
    path, issued = data.serving(authority, NAMES, clock)
    assert issued
    before = path.read_bytes()
    assert data.serving(authority, NAMES, clock) == (path, False)
    assert path.read_bytes() == before
    assert data.serving(authority, (*NAMES, "mv.example.com"), clock) == (path, True)
    clock.moment += 300 * 86_400_000
    assert data.serving(authority, (*NAMES, "mv.example.com"), clock) == (path, True)
    assert data.serving(make_authority(clock.now()), NAMES, clock) == (path, True)
    path.write_bytes(b"damaged")
    assert data.serving(authority, NAMES, clock) == (path, True)
    assert mode(path) == 0o600


def test_the_credentials_are_one_json_object(data):
    given = Credentials("https://mv.example.com", "AC1", "token", None, "https://127.0.0.1:8443")
    data.write_credentials(given)
    assert json.loads(data.credentials.read_text()) == {
        "base_url": "https://mv.example.com",
        "account_sid": "AC1",
        "auth_token": "token",
        "ca_file": None,
        "local_url": "https://127.0.0.1:8443",
    }
    assert mode(data.credentials) == 0o600


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(data):
    kept = [data.make_seal_key(RealEntropy()), data.root / "fleetvisor.db"]
    kept[1].write_bytes(b"")
    for path in (data.spool / "upload-1", data.root / ".credentials.json.17.new", data.tls / ".server.key.17.new"):
        path.write_bytes(b"half")
    data.clear_leftovers()
    left = {path.relative_to(data.root) for path in data.root.rglob("*") if path.is_file()}
    assert left == {path.relative_to(data.root) for path in kept}


class _At(RealClock):
    """A clock that stands at a time of its own."""

    def __init__(self, now):
        self._now = now

    def now(self):
        return self._now


@pytest.mark.parametrize(("made", "why"), [(0, "ended on 1989"), (4_000_000_000_000, "begins on 2096")])
def test_a_ca_that_is_not_valid_now_is_told_of_and_made_anew_when_told(data, made, why):
    old = data.authority(_At(made))
    data.publish(old)
    with pytest.raises(StartFault, match=rf"{why}.*clock.*--new-ca"):
        data.authority(RealClock())
    (told,) = authority_check(data.root)
    assert (told.check, told.verdict) == ("CA", Verdict.FAIL)
    assert why in told.finding
    assert "--new-ca" in told.advice
    new = data.authority(RealClock(), anew=True)
    assert new.fingerprint != old.fingerprint
    data.publish(new)
    assert [check.verdict for check in authority_check(data.root)] == [Verdict.OK]
    (kept,) = data.tls.glob("ca-until-*.key")
    assert kept.read_bytes().startswith(old.pem), "the old one stays, to go back to"
    assert data.authority(RealClock(), anew=True).pem == new.pem, "a CA that is valid is never replaced"


def test_the_doctor_says_nothing_of_a_ca_that_nobody_serves_by(data):
    assert list(authority_check(data.root)) == []
    data.publish(data.authority(_At(0)))
    data.write_credentials(Credentials("https://a", "AC", "t", None, "https://a"))
    assert list(authority_check(data.root)) == []


def test_keys_that_others_may_read_and_another_owner_are_warned_of(data, monkeypatch):
    data.authority(RealClock())
    key = data.make_seal_key(RealEntropy())
    assert data.warnings() == []
    key.chmod(0o640)
    (data.tls / "ca.key").chmod(0o604)
    (told,) = data.warnings()
    assert f"chmod go= {key} {data.tls / 'ca.key'}" in told
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)  # another user's process
    assert f"belongs to user {own}" in data.warnings()[0]
    assert [check.verdict for check in directory_checks(data.root) if check.check == "owner"] == [Verdict.WARN]


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("mv.example.com", False),
        ("a.wild.example.com", False),
        ("b.a.wild.example.com", True),
        ("10.0.0.1", False),
        ("10.0.0.2", True),
        ("other.example.com", True),
    ],
)
def test_a_certificate_without_the_public_name_is_warned_of(tmp_path, host, warned):
    made = issue(
        make_authority(RealClock().now()), ("mv.example.com", "*.wild.example.com", "10.0.0.1"), RealClock().now()
    )
    (tmp_path / "c.pem").write_bytes(made.pem)
    told = name_warnings(tmp_path / "c.pem", host)
    assert [host in text for text in told] == [True] * warned
    assert name_warnings(None, host) == []
