"""``fleetvisor serve``, from the data directory to the last answer.

One process, one event loop (uvloop). Ready means: credentials written, port open, ``/healthz`` 200. On SIGTERM every
held poll is answered at once, the rest drains for at most ten seconds, and the process exits 0.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvloop

from fleetvisor.blobs.store import Blobs
from fleetvisor.db.database import Database, DatabaseFault
from fleetvisor.db.sqlite import open_sqlite
from fleetvisor.features.accounts.model import NewAccount
from fleetvisor.ground.limits import Limits
from fleetvisor.obs import logs
from fleetvisor.pki.ca import Authority
from fleetvisor.pki.seal import Seal, SealFault
from fleetvisor.pki.serving import days_left
from fleetvisor.reality import RealClock, RealEntropy, in_thread
from fleetvisor.server import names, shared
from fleetvisor.server.background import Job, Tail, run_jobs
from fleetvisor.server.build import World, build
from fleetvisor.server.files import DataDirectory, StartFault
from fleetvisor.server.listener import Listener, connections_bound, free_port, is_any, resolve
from fleetvisor.settings import Settings, limits_from

_log = structlog.get_logger()
_DRAIN_S: Final = 10.0
_RENEWAL_CHECK_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Started:
    """What a server that is ready tells: how to call it."""

    base_url: str
    local_url: str
    account: NewAccount
    data: DataDirectory
    authority: Authority | None
    warnings: tuple[str, ...]


def serve(settings: Settings, announce: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``StartFault`` when it cannot start."""
    logs.configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Server(settings).run(announce))


class _Server:
    """The one server of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = RealClock()
        self._entropy = RealEntropy()
        self._data = DataDirectory(settings.data)
        self._stop = asyncio.Event()

    async def run(self, announce: Callable[[Started], None]) -> None:
        """Start, serve, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._data.hold()
        try:
            await self._hold(announce)
        finally:
            self._data.release()

    async def _hold(self, announce: Callable[[Started], None]) -> None:
        try:
            limits = limits_from()
        except ValueError as error:
            raise StartFault(f"{error}.") from error
        self._data.clear_spool()
        seal = self._load_seal()
        db = await self._open_database()
        try:
            await shared.check_seal_keys(db, seal, self._clock)
            authority = await self._authority(db, seal)
            await self._serve(limits, seal, db, authority, announce)
        finally:
            await db.close()

    async def _serve(
        self,
        limits: Limits,
        seal: Seal,
        db: Database,
        authority: Authority | None,
        announce: Callable[[Started], None],
    ) -> None:
        address = resolve(self._settings.host)
        everywhere = is_any(address)
        port = free_port(address, self._settings.port)
        base = names.base_url(self._settings.host, port, self._settings.public_url, everywhere=everywhere)
        blobs = Blobs(self._settings.blobs or self._data.root / "blobs", offload=in_thread)
        if self._settings.database is None:  # alone with the directory: what is unfinished there is an earlier life's
            blobs.clear_leftovers()
        world = build(
            db=db,
            blobs=blobs,
            seal=seal,
            limits=limits,
            clock=self._clock,
            entropy=self._entropy,
            offload=in_thread,
            spool=self._data.spool,
            base_url=base,
            ca_pem=authority.pem if authority else None,
        )
        account = await world.accounts.ensure_first()
        wanted = names.certificate_names(self._settings.host, base, everywhere=everywhere)
        cert, key = self._certificate(authority, wanted)
        doors = _Doors(world, address, port, connections_bound(limits.connections_max), limits)
        await doors.open(cert, key)
        local = f"https://{'127.0.0.1' if everywhere else names.host_in_url(address)}:{port}"
        self._data.write_credentials(
            base_url=base,
            account_sid=account.account_sid,
            auth_token=account.auth_token,
            ca_file=self._data.ca_file if authority else None,
            local_url=local,
        )
        jobs = (*world.jobs, *self._jobs(world, doors, authority, wanted))
        if self._settings.database is not None:
            await jobs[-1].run()
        self._publish(world, cert)
        running = asyncio.create_task(run_jobs(jobs, self._clock), name="jobs")
        world.ready = True
        announce(Started(base, local, account, self._data, authority, self._warnings(base, everywhere=everywhere)))
        try:
            await self._stop.wait()
        finally:
            world.begin_shutdown()
            running.cancel()
            await asyncio.wait({running})
            await doors.close()
            await world.presence.flush()

    def _jobs(self, world: World, doors: "_Doors", authority: Authority | None, wanted: list[str]) -> tuple[Job, ...]:
        jobs: list[Job] = []
        if authority is not None:

            async def renew() -> None:
                cert, key, issued = self._data.serving(authority, wanted, self._clock)
                if issued:
                    await doors.open(cert, key)

            jobs.append(Job("certificate", _RENEWAL_CHECK_S, renew))
        if self._settings.database is not None:
            tail = Tail(db=world.db, bus=world.bus, clock=self._clock)
            jobs += [Job("tail-watch", 0.5, tail.watch), Job("tail", 0.5, tail.read)]
        return tuple(jobs)

    def _load_seal(self) -> Seal:
        files = list(self._settings.seal_key_file) or self._data.seal_keys()
        if not files:
            files = [self._data.make_seal_key(self._entropy)]
        try:
            return Seal.load(files, self._entropy)
        except SealFault as error:
            raise StartFault(str(error)) from error

    async def _open_database(self) -> Database:
        settings = self._settings
        try:
            if settings.database is None:
                return await open_sqlite(self._data.database)
            if not settings.seal_key_file or settings.blobs is None:
                raise StartFault("--database needs --seal-key-file and --blobs too: all nodes share the three.")
            from fleetvisor.db.postgres import open_postgres

            return await open_postgres(settings.database)
        except DatabaseFault as error:
            raise StartFault(f"The database cannot be opened: {error}") from error

    async def _authority(self, db: Database, seal: Seal) -> Authority | None:
        """Give the local CA, or ``None`` when the operator has a certificate of his own."""
        if self._settings.tls_cert is not None:
            return None
        if self._settings.database is None:
            authority = self._data.authority(self._clock)
        else:
            authority = await shared.shared_authority(db, seal, self._clock)
        self._data.publish_ca(authority)
        return authority

    def _certificate(self, authority: Authority | None, wanted: list[str]) -> tuple[Path, Path]:
        if authority is not None:
            cert, key, _ = self._data.serving(authority, wanted, self._clock)
            return cert, key
        cert, key = self._settings.tls_cert, self._settings.tls_key
        if cert is None or key is None:
            raise StartFault("--tls-cert and --tls-key go together: give both.")
        return cert, key

    def _publish(self, world: World, cert: Path) -> None:
        world.metrics.watch(
            "certificate_days",
            "Days for which the server certificate is still valid.",
            lambda: days_left(cert.read_bytes(), self._clock.now()),
        )
        if self._settings.metrics_port is not None:
            world.metrics.serve(self._settings.metrics_port)

    def _warnings(self, base: str, *, everywhere: bool) -> tuple[str, ...]:
        found: list[str] = []
        if everywhere and self._settings.public_url is None:
            port = urlsplit(base).port
            found.append(
                "The server listens on all addresses, but its answers name localhost. Give the name that clients "
                f"use, for example: --public-url https://fleet.example.com:{port}"
            )
        node = names.node_warning(base)
        if node:
            found.append(node)
        return tuple(found)


class _Doors:
    """The listener in use; opening another one closes it, without a moment in which the port is shut."""

    def __init__(self, world: World, address: str, port: int, connections_max: int, limits: Limits) -> None:
        self._world = world
        self._address = address
        self._port = port
        self._connections_max = connections_max
        self._limits = limits
        self._listener: Listener | None = None

    async def open(self, cert: Path, key: Path) -> None:
        """Listen with this certificate."""
        fresh = Listener(
            self._world.app,
            address=self._address,
            port=self._port,
            cert=cert,
            key=key,
            connections_max=self._connections_max,
            buffer_bytes=self._limits.header_bytes_max,
        )
        await fresh.start()
        old, self._listener = self._listener, fresh
        if old is not None:
            await old.stop(_DRAIN_S)

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            await self._listener.stop(_DRAIN_S)
