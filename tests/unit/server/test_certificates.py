"""Which certificate is served, and when there is a new one."""

import pytest

from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock
from fleetvisor.server.certificates import GivenCertificate, OwnCertificate
from fleetvisor.server.files import DataDirectory, StartFault

NAMES = ("localhost", "127.0.0.1")


class LaterClock(RealClock):
    days = 0

    def now(self):
        return super().now() + self.days * 86_400_000


def test_our_own_is_new_at_start_and_when_it_was_renewed(tmp_path):
    data, clock = DataDirectory(tmp_path / "fleet"), LaterClock()
    certificate = OwnCertificate(data, data.authority(clock), NAMES, clock)
    assert certificate.refresh()
    assert not certificate.refresh()
    assert 364 < certificate.days_left() <= 365
    clock.days = 250
    assert certificate.refresh()
    assert 364 < certificate.days_left() <= 365
    assert not certificate.refresh()


def test_our_own_is_new_to_a_process_that_finds_it_good(tmp_path):
    data, clock = DataDirectory(tmp_path / "fleet"), RealClock()
    authority = data.authority(clock)
    OwnCertificate(data, authority, NAMES, clock).refresh()
    assert OwnCertificate(data, authority, NAMES, clock).refresh()


@pytest.fixture
def given(tmp_path):
    """The files of an operator, and the function that writes them anew."""
    authority = make_authority(RealClock().now())
    cert, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"

    def write():
        made = issue(authority, NAMES, RealClock().now())
        cert.write_bytes(made.pem + authority.pem)
        key.write_bytes(made.key_pem)

    write()
    return cert, key, write


def test_the_operators_is_taken_anew_when_its_files_change(given):
    cert, key, write = given
    certificate = GivenCertificate(cert, key, RealClock())
    assert certificate.refresh()
    assert not certificate.refresh()
    write()
    assert certificate.refresh()
    assert certificate.files == (cert, key)
    assert certificate.days_left() > 364


def test_files_that_cannot_be_served_with_are_refused(given, tmp_path):
    cert, key, _ = given
    other = tmp_path / "other.pem"
    other.write_bytes(issue(make_authority(RealClock().now()), NAMES, RealClock().now()).key_pem)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for files in (
        (cert, other),
        (key, cert),
        (cert, tmp_path / "absent"),
        (tmp_path / "absent", key),
        (cert, encrypted),
    ):
        with pytest.raises(StartFault, match="--tls-(cert|key)"):
            GivenCertificate(*files, RealClock()).refresh()
