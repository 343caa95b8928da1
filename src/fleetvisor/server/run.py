"""``fleetvisor serve``, from the data directory to the last answer: one process, one event loop (uvloop).

The order of a start: the files and the host that were named, lock, port, database, sealing keys, CA, services,
account, certificate, metrics, ``credentials.json``, doors open. So a start is refused before it made anything, as far
as that can be, and ``/healthz`` answers 200 only when the credentials file is complete. The order of an end: every
held poll is answered, no new connection is accepted, answers under way get ten seconds, what is noted is written, the
database is closed, the lock given back. Deliberately no wiring of services: ``server/build`` has it.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvloop

from fleetvisor.blobs.store import Blobs
from fleetvisor.db.database import Database, DatabaseFault, DatabaseUnfit
from fleetvisor.features.accounts.model import NewAccount
from fleetvisor.ground.clock import later
from fleetvisor.ground.disk import SENTENCES, fault_of
from fleetvisor.ground.limits import Limits
from fleetvisor.obs import logs
from fleetvisor.obs.sink import Sink
from fleetvisor.pki.ca import Authority
from fleetvisor.pki.seal import Seal, SealFault
from fleetvisor.reality import RealClock, RealEntropy, Threads
from fleetvisor.server import descriptors, shared
from fleetvisor.server.background import Job, Tail, run_jobs
from fleetvisor.server.build import Asgi, World, build
from fleetvisor.server.certificates import Certificate, GivenCertificate, OwnCertificate
from fleetvisor.server.databases import open_local, open_shared
from fleetvisor.server.descriptors import Shares
from fleetvisor.server.ending import first, leave_now, tell
from fleetvisor.server.files import WAY_OUT, Credentials, DataDirectory, StartFault
from fleetvisor.server.gate import LOOK_S, gate_before
from fleetvisor.server.given import start_warnings
from fleetvisor.server.listener import Doors, resolve
from fleetvisor.server.parsing import Parsers
from fleetvisor.server.telemetry import Telemetry
from fleetvisor.settings import Settings

DRAIN_S: Final = 10.0
_FOLLOW_S: Final = 0.5
_LEFTOVERS_S: Final = 24 * 3600  # no upload takes so long
_TAIL_S: Final = 0.5
_THREADS_MAX: Final = 8  # of each kind of blocking work
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Started:
    """What a server that is ready tells: how to call it."""

    base_url: str
    local_url: str
    account: NewAccount
    data: DataDirectory
    authority: Authority | None
    warnings: tuple[str, ...]


def serve(settings: Settings, limits: Limits, announce: Callable[[Started], None]) -> signal.Signals:
    """Serve until SIGTERM or SIGINT, and give which it was. Raises ``StartFault`` when it cannot start."""
    os.umask(0o077)
    sink = logs.configure(settings.log_level)
    named = _Named.check(settings)
    data = DataDirectory(settings.data)
    data.hold()
    try:
        data.clear_leftovers()
        shares = descriptors.share_out(descriptors.hard_limit(), limits.connections_max)
        descriptors.set_soft_limit(shares.soft)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Process(settings, named, limits, shares, data, announce, sink).run())
    except OSError as error:
        if (fault := fault_of(error)) is None:
            raise
        place = error.filename or settings.data
        raise StartFault(f"{place} cannot be written. {SENTENCES[fault]} {WAY_OUT[fault]}") from error
    finally:
        data.release()


def _settle_memory() -> None:
    """Let the garbage collector pass by what was made at start: a full collection stopped every answer for 60 ms."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True)
class _Named:
    """What the settings name and a start can look at before it makes anything."""

    address: str
    certificate: GivenCertificate | None

    @classmethod
    def check(cls, settings: Settings) -> "_Named":
        """Look at it all. Raises ``StartFault``."""
        if settings.seal_key_file:
            _load_seal(settings.seal_key_file, RealEntropy())
        certificate = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            certificate = GivenCertificate(settings.tls_cert, settings.tls_key, RealClock())
            certificate.refresh()
        return cls(resolve(settings.host), certificate)


class _Process:
    """The one server of this process."""

    def __init__(
        self,
        settings: Settings,
        named: _Named,
        limits: Limits,
        shares: Shares,
        data: DataDirectory,
        announce: Callable[[Started], None],
        sink: Sink,
    ) -> None:
        self._settings = settings
        self._named = named
        self._limits = descriptors.within(limits, shares)
        self._shares = shares
        self._data = data
        self._announce = announce
        self._sink = sink
        self._clock = RealClock()
        self._entropy = RealEntropy()
        # What devices download waits for no upload, and neither waits for an import.
        self._downloads = Threads("downloads", _THREADS_MAX)
        self._uploads = Threads("uploads", _THREADS_MAX)
        self._work = Threads("work", _THREADS_MAX)
        self._parsers = Parsers(limits)

    async def run(self) -> signal.Signals:
        """Start, serve until a signal, stop."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[signal.Signals] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, tell, told, number)
        doors = Doors(
            address=self._named.address,
            connections_max=self._shares.connections,
            backlog=self._shares.backlog,
            header_bytes_max=self._limits.header_bytes_max,
        )
        port = doors.take(self._settings.port)
        try:
            blobs = self._blobs()
            db = await self._open_database()
            try:
                seal = await self._seal(db)
                authority = await self._authority(db, seal)
                return await self._serve(doors, port, db, blobs, seal, authority, told)
            finally:
                await db.close()
        except DatabaseUnfit as error:
            place = "" if self._settings.database else f" {self._data.database}"
            raise StartFault(f"The database{place} failed: {error} {WAY_OUT[error.fault]}") from error
        except DatabaseFault as error:
            raise StartFault(f"The database failed: {error}") from error
        finally:
            doors.release()

    async def _serve(
        self,
        doors: Doors,
        port: int,
        db: Database,
        blobs: Blobs,
        seal: Seal,
        authority: Authority | None,
        told: asyncio.Future[signal.Signals],
    ) -> signal.Signals:
        world = self._build(db, blobs, seal, authority, port)
        account = await self._first_account(world)
        certificate = self._certificate(authority)
        gate = gate_before(doors, self._shares, self._limits, self._settings.proxies, self._clock, self._work)
        telemetry = Telemetry(world, certificate.days_left, self._settings.metrics_port, self._sink, gate)
        world.began.append(gate.began)
        try:
            jobs = (
                *world.jobs,
                *telemetry.jobs,
                *await self._jobs(world, doors, certificate, world.app),
                Job("gate", LOOK_S, gate.look),
                self._follow(world, account, authority, port),
            )
            self._write_credentials(account, authority, port)
            await doors.open(world.app, *certificate.files)
        except BaseException:
            telemetry.close()
            raise
        running = asyncio.create_task(
            run_jobs(jobs, self._clock, telemetry.metrics.job_failed, world.health), name="jobs"
        )
        _settle_memory()
        world.ready = True
        self._tell_how_to_call(account, authority, port)
        try:
            return await first(told, doors.broken, running)
        finally:
            world.begin_shutdown()
            drained = await doors.close(DRAIN_S)
            gate.release()
            running.cancel()
            _, pending = await asyncio.wait({running}, timeout=DRAIN_S)
            telemetry.close()
            await self._parsers.close()
            closed = not pending and await self._close(world)
            _log.info("server.stopped", drained=drained, closed=closed)
            if not (drained and closed):  # what still goes on would hold the process for as long as it likes
                leave_now(told)

    def _build(self, db: Database, blobs: Blobs, seal: Seal, authority: Authority | None, port: int) -> World:
        return build(
            db=db,
            blobs=blobs,
            seal=seal,
            limits=self._limits,
            clock=self._clock,
            entropy=self._entropy,
            offload=self._work,
            spooling=self._uploads,
            reader=self._parsers,
            spool=self._data.spool,
            base_url=self._settings.base_url(port),
            audiences=self._settings.audiences,
            proxies=self._settings.proxies,
            ca_pem=authority.pem if authority else None,
            hsts_s=self._settings.hsts_s,
        )

    async def _open_database(self) -> Database:
        if self._settings.database is not None:
            return await open_shared(self._settings.database, self._limits)
        path = self._data.database
        if self._data.seal_keys() and path.is_file() and path.stat().st_size == 0:
            raise StartFault(
                f"The database {path} is empty, and {self._data.keys} holds the key of one that was not: restore it"
                " from a backup, or remove the file to begin anew."
            )
        return await open_local(path)

    async def _seal(self, db: Database) -> Seal:
        """Load the sealing keys; only a database that needs none yet may have its first one made."""
        files = [*self._settings.seal_key_file, *self._data.seal_keys()]
        if not files:
            named = await shared.named_seal_keys(db)
            if named:
                raise shared.missing_key(named[0])
            files = [self._data.make_seal_key(self._entropy)]
        seal = _load_seal(files, self._entropy)
        await shared.check_seal_keys(db, seal, self._clock)
        return seal

    async def _authority(self, db: Database, seal: Seal) -> Authority | None:
        """Return the local CA, or ``None`` when the operator has a certificate of his own."""
        if self._settings.tls_cert is not None:
            return None
        if self._settings.database is None:
            authority = self._data.authority(self._clock, anew=self._settings.new_ca)
        else:
            authority = await shared.shared_authority(db, seal, self._clock, anew=self._settings.new_ca)
        self._data.publish(authority)
        return authority

    def _certificate(self, authority: Authority | None) -> Certificate:
        """Return the certificate, ready to serve with."""
        if self._named.certificate is not None:
            return self._named.certificate
        if authority is None:
            raise AssertionError("there is a CA unless there is a certificate")
        own = OwnCertificate(self._data, authority, self._settings.certificate_names(), self._clock)
        own.refresh()
        return own

    def _blobs(self) -> Blobs:
        directory = self._settings.blobs or self._data.blobs
        try:
            blobs = Blobs(directory, offload=self._downloads, writing=self._uploads)
            # Alone with the directory, what is unfinished is an earlier process's; else another node may be at it.
            alone = self._settings.database is None
            blobs.clear_leftovers(before=None if alone else later(self._clock.now(), -_LEFTOVERS_S))
        except OSError as error:
            advice = "give --blobs a directory that the server may write"
            raise StartFault(f"The blob directory {directory} cannot be used ({error.strerror}): {advice}.") from error
        return blobs

    async def _first_account(self, world: World) -> NewAccount:
        """Return the first account, made if need be, once it is known that the firmware is there."""
        await self._check_blobs(world)
        return await world.accounts.ensure_first()

    async def _check_blobs(self, world: World) -> None:
        """Refuse to start without the firmware bytes, unless that is asked for. Raises ``StartFault``."""
        damage = world.apps.damage
        if self._settings.blobs_lost:
            missing = await damage.note_missing()
            _log.warning("blobs.lost", missing=missing)
        elif await damage.lost_directory():
            directory = self._settings.blobs or self._data.blobs
            raise StartFault(
                f"The blob directory {directory} holds none of the firmware that the database names: mount it, restore"
                " it from a backup, or give the right --blobs. To start without it, give --blobs-lost: the Apps"
                " concerned are damaged then, and uploading the same files again mends them."
            )

    async def _jobs(self, world: World, doors: Doors, certificate: Certificate, app: Asgi) -> tuple[Job, ...]:
        due = False

        async def renew() -> None:
            nonlocal due
            due = await self._work(certificate.refresh) or due  # stays due until it is served, should opening fail
            if due:
                await doors.open(app, *certificate.files)
                due = False

        jobs = [Job("certificate", float(self._settings.tls_check_s), renew)]
        if self._settings.database is not None:
            tail = Tail(db=world.db, bus=world.bus, clock=self._clock)
            await tail.read()
            jobs += [Job("tail", _TAIL_S, tail.read), Job("tail-watch", _TAIL_S, tail.watch)]
        return tuple(jobs)

    def _follow(self, world: World, first: NewAccount, authority: Authority | None, port: int) -> Job:
        """Write ``credentials.json`` anew when the first account's Auth Token was replaced."""
        rung, told = False, first.auth_token

        def hear(sids: frozenset[str]) -> None:
            nonlocal rung
            rung = rung or first.account_sid in sids

        async def follow() -> None:
            nonlocal rung, told
            if rung:
                rung = False
                try:
                    account = await world.accounts.ensure_first()
                    if account.auth_token != told:
                        self._write_credentials(account, authority, port)
                        told = account.auth_token
                except BaseException:
                    rung = True  # the file is still to be written
                    raise

        world.bus.listen(hear)
        return Job("credentials", _FOLLOW_S, follow)

    def _write_credentials(self, account: NewAccount, authority: Authority | None, port: int) -> None:
        self._data.write_credentials(
            Credentials(
                base_url=self._settings.base_url(port),
                account_sid=account.account_sid,
                auth_token=account.auth_token,
                ca_file=str(self._data.ca_file) if authority else None,
                local_url=self._settings.local_url(port),
            )
        )

    def _tell_how_to_call(self, account: NewAccount, authority: Authority | None, port: int) -> None:
        settings = self._settings
        base, local = settings.base_url(port), settings.local_url(port)
        warnings = (*settings.warnings(port), *start_warnings(settings, self._data, self._clock))
        _log.info("server.ready", base_url=base, local_url=local, data=str(self._data.root), pid=os.getpid())
        for warning in warnings:
            _log.warning("server.name", warning=warning)
        try:
            self._announce(Started(base, local, account, self._data, authority, warnings))
        except OSError as error:  # nobody reads what is printed: no reason to stop serving
            _log.warning("server.unheard", reason=str(error))

    @staticmethod
    async def _close(world: World) -> bool:
        """Close the world; return whether it closed in time."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await world.close()
        except DatabaseFault as error:  # the last second of presence: documented as what may be lost
            _log.warning("server.closing", reason=str(error))
        except TimeoutError:
            return False
        return True


def _load_seal(files: Sequence[Path], entropy: RealEntropy) -> Seal:
    try:
        return Seal.load(files, entropy)
    except SealFault as error:
        advice = "Restore it from where the sealing keys are kept: without it no secret can be read."
        raise StartFault(f"{error} {advice}") from error
