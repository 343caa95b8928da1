"""What ``serve`` prints for people."""

import sys

import pytest

from fleetvisor.cli.serve import program


@pytest.mark.parametrize(
    ("called", "found", "shown"),
    [
        ("/srv/fleet visor/.venv/bin/fleetvisor", False, "'/srv/fleet visor/.venv/bin/fleetvisor'"),
        ("/srv/.venv/bin/fleetvisor", True, "fleetvisor"),
        ("/srv/src/fleetvisor/__main__.py", False, "fleetvisor"),
    ],
)
def test_the_program_is_named_by_its_path_where_the_shell_would_not_find_it(
    called, found, shown, tmp_path, monkeypatch
):
    if found:
        (tmp_path / "fleetvisor").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [called])  # the process's own
    assert program() == shown
