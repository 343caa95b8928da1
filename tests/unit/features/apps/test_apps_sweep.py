"""The sweep: takes what nobody uses, and never what somebody does, whoever is at work at the same moment."""

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.features.apps.interleave import PausingDatabase, Run, pausing_offload
from tests.unit.features.apps.warehouse import apps_of, digest_of, firmware, warehouse

from fleetvisor.blobs.store import Blobs
from fleetvisor.features.apps import rules
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import Upload
from fleetvisor.features.apps.sweep import sweep
from fleetvisor.ground.errors import NotFound
from fleetvisor.reality import inline

pytestmark = pytest.mark.slow

A, B = b"one layer" * 9, b"another layer" * 9


async def a_house_with_unused_layers(tmp_path, *parts):
    """Upload each part and remove its app again."""
    house = await warehouse(tmp_path)
    for part in parts:
        app = await house.upload(firmware(part))
        await house.apps.delete(house.at.account, app.app_sid)
    return house


async def test_a_row_goes_after_the_grace_and_its_bytes_a_grace_later(tmp_path):
    """A device that asked just before the row went still gets its download to the end."""
    house = await a_house_with_unused_layers(tmp_path, A)
    for advance_s, swept, rows, files in (
        (3599, 0, 1, 1),
        (2, 1, 0, 1),
        (3599, 0, 0, 1),
        (2, 1, 0, 0),
        (9999, 0, 0, 0),
    ):
        house.at.clock.advance(advance_s)
        assert await house.sweep() == swept
        assert await house.at.number("SELECT count(*) AS number FROM layers") == rows
        assert len(house.stored()) == files
    assert not await house.at.number("SELECT count(*) AS number FROM removed_blobs")


async def test_what_an_app_uses_stays_however_old(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A, B))
    house.at.clock.advance(10**8)
    assert await house.sweep() == 0
    await house.check()


async def test_an_upload_renews_the_grace(tmp_path):
    house = await a_house_with_unused_layers(tmp_path, A)
    house.at.clock.advance(3599)
    app = await house.upload(firmware(A))
    await house.apps.delete(house.at.account, app.app_sid)
    house.at.clock.advance(3599)
    assert await house.sweep() == 0
    assert len(house.stored()) == 1


async def test_a_clock_that_is_behind_does_not_shorten_the_grace(tmp_path):
    """Nodes' clocks differ; a renewal never moves the date back."""
    house = await a_house_with_unused_layers(tmp_path, A)
    house.at.clock.advance(-7200)
    await house.apps.delete(house.at.account, (await house.upload(firmware(A))).app_sid)
    house.at.clock.advance(7200 + 3599)
    assert await house.sweep() == 0


async def test_a_layer_that_comes_back_is_not_hurt_by_the_removal_of_its_old_bytes(tmp_path):
    house = await a_house_with_unused_layers(tmp_path, A)
    house.at.clock.advance(3601)
    await house.sweep()
    await house.upload(firmware(A))
    assert len(house.stored()) == 2, "the old bytes wait for their end, the new ones have another name"
    house.at.clock.advance(3601)
    assert await house.sweep() == 1
    assert len(house.stored()) == 1
    await house.check()


async def test_a_row_that_was_renewed_after_it_was_read_stays(tmp_path):
    """Compare-and-set: the sweep removes the row only as it saw it."""
    house = await a_house_with_unused_layers(tmp_path, A)
    house.at.clock.advance(3601)
    (seen,) = await apps_store.unused(house.at.db, house.at.clock.now(), 10)
    app = await house.upload(firmware(A))
    assert not await house.at.db.write(lambda tx: apps_store.remove_unused(tx, seen, house.at.clock.now()))
    await house.apps.delete(house.at.account, app.app_sid)
    assert not await house.at.db.write(lambda tx: apps_store.remove_unused(tx, seen, house.at.clock.now()))
    assert not await house.at.number("SELECT count(*) AS number FROM removed_blobs")


async def test_however_much_there_is_one_sweep_takes_it_in_bounded_reads(tmp_path, monkeypatch):
    house = await warehouse(tmp_path)
    for number in range(250):
        digest = f"{number:064x}"
        await house.at.run(
            "INSERT INTO layers (digest, blob, size_bytes, date_renewed) VALUES (:digest, :blob, 1, :now)",
            digest=digest,
            blob=rules.blob_name(digest, "00"),
            now=house.at.clock.now(),
        )
    rows_read = []

    async def read_all(row, sql, params, real=house.at.db.all):
        rows = await real(row, sql, params)
        rows_read.append(len(rows))
        return rows

    monkeypatch.setattr(house.at.db, "all", read_all)  # lets something happen between a read and what follows
    for _ in range(2):
        house.at.clock.advance(3601)
        assert await house.sweep() == 250
    assert max(rows_read) == 100


async def test_bytes_that_cannot_be_removed_now_hold_up_nobody_and_are_tried_again(tmp_path):
    house = await a_house_with_unused_layers(tmp_path, A, B)
    house.at.clock.advance(3601)
    assert await house.sweep() == 2
    stuck = next(path for path in house.stored() if path.name.startswith(digest_of(A)))
    stuck.rename(stuck.with_name("elsewhere"))
    stuck.mkdir()  # no file of this name can be removed
    (stuck / "x").touch()
    house.at.clock.advance(3601)
    assert await house.sweep() == 1
    (stuck / "x").unlink()
    stuck.rmdir()
    stuck.with_name("elsewhere").rename(stuck)
    assert await house.sweep() == 1
    assert house.stored() == []


BUNDLES = [firmware(A), firmware(B), firmware(A, B), firmware(B, A, B)]
WHICH = st.integers(0, 3)
UPLOAD = st.tuples(st.just("upload"), st.sampled_from([0, 0, 0, 1, 2, 3]))
GO_ON = st.one_of(
    st.tuples(st.just("steps"), WHICH, st.integers(1, 9)),
    st.tuples(st.just("finish"), WHICH),
)
AGE = st.tuples(st.just("advance"), st.sampled_from([3601, 3601, 1800]))
OTHERS = st.one_of(
    st.tuples(st.just("delete"), WHICH),
    st.tuples(st.just("sweep"), st.just(0)),
    AGE,
)
MOVES = st.one_of(UPLOAD, GO_ON, GO_ON, OTHERS)
CRASH = st.tuples(st.just("crash"), WHICH)

# Three stories that chance finds seldom: a layer that comes back while its old bytes wait for their end; an upload
# that sleeps until its row is gone and somebody made it anew; two uploads of the same new layer at once.
COMES_BACK = [("upload", 0), ("finish", 0), ("delete", 0), ("finish", 0), ("advance", 3601), ("sweep", 0),
    ("finish", 0), ("upload", 0), ("finish", 0), ("advance", 3601), ("sweep", 0), ("finish", 0)]  # fmt: skip
SLEEPS = [("upload", 0), ("steps", 0, 6), ("advance", 3601), ("sweep", 0), ("finish", 1), ("upload", 0),
    ("finish", 1), ("finish", 0)]  # fmt: skip
AT_ONCE = [("upload", 0), ("upload", 0), ("steps", 0, 4), ("finish", 1), ("finish", 0)]


class Nodes:
    """Uploads, removals and sweeps of several nodes, interleaved as the moves say; safety is checked after each step."""

    def __init__(self, house) -> None:
        self.house = house
        self.db = PausingDatabase(house.at.db)
        directory = house.directory
        self.blobs = Blobs(directory / "blobs", offload=pausing_offload, fsync=lambda _descriptor: None)
        self.apps = apps_of(house.at, directory, self.blobs, db=self.db, offload=pausing_offload)
        self.running: list[Run] = []
        self.crashed: list[Run] = []
        self.uploads: list[Run] = []

    async def play(self, move: str, number: int, steps: int = 1) -> None:
        if move == "advance":
            self.house.at.clock.advance(number)
        elif move == "upload":
            path = self.house.directory / f"bundle-{number}"
            path.write_bytes(BUNDLES[number])
            run = Run("upload", self.apps.create(self.house.at.account, path, Upload()))
            self.uploads.append(run)
            self.running.append(run)
        elif move == "sweep":
            self.running.append(Run("sweep", sweep(self.db, self.blobs, self.house.at.clock, self.house.at.limits)))
        elif move == "delete":
            made = [run.result for run in self.uploads if run.result is not None]
            if made:
                app = made[number % len(made)]
                self.running.append(Run("delete", self.apps.delete(self.house.at.account, app.app_sid)))
        elif self.running:
            run = self.running[number % len(self.running)]
            if move == "crash":
                self.running.remove(run)
                self.crashed.append(run)
            else:
                await self._go_on(run, 1000 if move == "finish" else steps)

    async def _go_on(self, run: Run, steps: int) -> None:
        for _ in range(steps):
            run.step()
            await self.house.check()
            if run.over:
                self.running.remove(run)
                assert run.problem is None or isinstance(run.problem, NotFound), run.problem  # removed twice
                return

    async def end(self) -> None:
        """Let everything that runs come to its end, in turns."""
        while self.running:
            for run in tuple(self.running):
                await self._go_on(run, 1)


@asynccontextmanager
async def played(moves):
    """Play the moves; in the end, however it came, let each coroutine end, for Python wants to see them closed."""
    with tempfile.TemporaryDirectory() as folder:
        nodes = Nodes(await warehouse(Path(folder)))
        try:
            for move in moves:
                await nodes.play(*move)
            yield nodes
        finally:
            for run in nodes.running + nodes.crashed:
                run.finish()


async def sweep_out(house) -> None:
    """Remove every app, and sweep until everything's time is over."""
    for (app_sid,) in house.at.db._connection.execute("SELECT app_sid FROM apps").fetchall():
        await house.apps.delete(house.at.account, app_sid)
    for _ in range(3):
        house.at.clock.advance(3601)
        await sweep(house.at.db, Blobs(house.directory / "blobs", offload=inline), house.at.clock, house.at.limits)
        await house.check()


many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@example(COMES_BACK)
@example(SLEEPS)
@example(AT_ONCE)
@given(st.lists(st.one_of(MOVES, CRASH), min_size=4, max_size=40))
async def test_no_app_ever_refers_to_missing_bytes_whatever_comes_between_and_whoever_dies(moves):
    """Checked after every single step of every interleaving. A crash is a coroutine that is never run again."""
    async with played(moves) as nodes:
        await nodes.end()
        await nodes.house.check()


@many
@example(COMES_BACK)
@example(SLEEPS)
@example(AT_ONCE)
@given(st.lists(MOVES, min_size=4, max_size=40))
async def test_whatever_comes_between_nothing_is_left_in_the_end(moves):
    """No bytes, no rows, no spooled files: neither of apps that were removed nor of uploads that started over."""
    async with played(moves) as nodes:
        await nodes.end()
        await sweep_out(nodes.house)
        assert nodes.house.stored() == []
        assert nodes.house.spooled() == []
        for table in ("layers", "removed_blobs", "app_layers"):
            assert not await nodes.house.at.number(f"SELECT count(*) AS number FROM {table}")


@pytest.mark.parametrize("steps", range(1, 40))
async def test_an_upload_that_dies_at_any_step_leaves_nothing_after_the_sweeps(tmp_path, steps):
    nodes = Nodes(await warehouse(tmp_path))
    await nodes.play("upload", 2)
    for _ in range(steps):
        await nodes.play("steps", 0)
    await nodes.play("crash", 0)
    await sweep_out(nodes.house)
    assert nodes.house.stored() == []
    for run in nodes.crashed:
        run.finish()


async def test_a_sweep_that_dies_between_bytes_and_note_is_finished_by_the_next(tmp_path):
    house = await a_house_with_unused_layers(tmp_path, A)
    house.at.clock.advance(3601)
    await house.sweep()
    house.at.clock.advance(3601)
    nodes = Nodes(house)
    await nodes.play("sweep", 0)
    while house.stored():
        await nodes.play("steps", 0)
    assert await house.at.number("SELECT count(*) AS number FROM removed_blobs") == 1
    assert await house.sweep() == 1
    assert not await house.at.number("SELECT count(*) AS number FROM removed_blobs")
    await nodes.end()


class _Blob(msgspec.Struct):
    blob: str


async def test_an_upload_that_slept_past_the_grace_starts_over(tmp_path):
    """Its row was swept between its bytes and its commit: it makes a new one, under a new name."""
    nodes = Nodes(await warehouse(tmp_path))
    house = nodes.house
    await nodes.play("upload", 0)
    while not house.stored():
        await nodes.play("steps", 0)
    (before,) = [path.name for path in house.stored()]
    house.at.clock.advance(3601)
    assert await house.sweep() == 1
    await nodes.end()
    assert nodes.uploads[0].problem is None
    row = await house.at.db.one(_Blob, "SELECT blob FROM layers", {})
    assert row is not None
    assert not row.blob.endswith(before)
    await house.check()
