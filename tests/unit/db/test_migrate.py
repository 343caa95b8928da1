"""Migrations: in order, without gaps, and never backwards."""

import pytest

from fleetvisor.db import migrate
from fleetvisor.db.database import DatabaseFault
from fleetvisor.db.migrate import Migration, in_order, migrations, pending


def step(version):
    return Migration(version, f"{version:04}_step.sql", ("SELECT 1",))


def test_the_program_ships_its_migrations():
    """They are read from the package, so an installed program has them too."""
    assert migrations()[0].name == "0001_main_job.sql"
    assert all(migration.statements for migration in migrations())


def test_migrations_are_sorted_by_number():
    assert [found.version for found in in_order([step(2), step(1), step(3)])] == [1, 2, 3]


@pytest.mark.parametrize("versions", [(1, 3), (1, 1, 2), (2,), (0, 1)])
def test_a_number_missing_or_used_twice_is_refused(versions):
    """Two branches that each add a migration must not both be taken as the same version."""
    with pytest.raises(DatabaseFault, match="without gap or double"):
        in_order([step(version) for version in versions])


def test_only_what_is_missing_is_pending(monkeypatch):
    # the program's own are too many to count by hand
    monkeypatch.setattr(migrate, "migrations", lambda: (step(1), step(2), step(3)))
    assert [found.version for found in pending(0)] == [1, 2, 3]
    assert [found.version for found in pending(2)] == [3]
    assert pending(3) == ()


def test_a_newer_schema_is_refused_with_what_to_do():
    with pytest.raises(DatabaseFault, match="schema version 9999, .* run the newer program, or restore"):
        pending(9999)
