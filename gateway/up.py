"""`perdure up`: the engine, both servers and the user's services in one process, until a signal.

Start-up prints what is served, where, and how fast the disk syncs. Everything else is elsewhere.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping

import uvloop

from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine, EngineOptions
from perdure.actors.partition import PartitionOptions
from perdure.actors.slow_handlers import SlowHandlers
from perdure.embedded import System
from perdure.gateway import server
from perdure.gateway.deployments import Registrar
from perdure.gateway.hosted import HostedApps
from perdure.gateway.operator_book import BookFile, OperatorBook
from perdure.gateway.remote import Remote
from perdure.gateway.settings import Settings
from perdure.gateway.targets import Loaded, load_all
from perdure.gateway.tracing_setup import attach, make_spans
from perdure.gateway.version_host import VersionHost
from perdure.gateway.versions import Versions
from perdure.journal.layout import prepare_partitions
from perdure.journal.leveldb import LevelDBOptions, open_store
from perdure.journal.placement import ALONE, Placement
from perdure.journal.schema import Service
from perdure.journal.store import SUSPICIOUS_FSYNC_US, Store

log = logging.getLogger("perdure.up")

GC_THRESHOLDS = (10_000, 10, 20)
SWITCH_INTERVAL_S = 0.0005  # how long a thread may hold the interpreter while another one waits


def run(settings: Settings, targets: list[str], *, keeps_versions: bool = False) -> None:
    """Serve until SIGINT or SIGTERM. Raises SettingsError or StoreError where it can't start."""
    versions = Versions(VersionHost(settings, targets)) if keeps_versions else None
    loaded = load_all(targets) if versions is None else versions.load()
    serve(settings, loaded, versions=versions)


def serve(
    settings: Settings,
    loaded: Loaded,
    listeners: server.Listeners | None = None,
    lifeline: int | None = None,
    versions: Versions | None = None,
) -> None:
    """``run`` with targets that are loaded, on sockets that somebody else holds.

    ``lifeline``: a file descriptor that can be read when whoever started this process is gone; serving
    ends then, too.
    """
    remote = Remote(settings)
    system = System(
        loaded.services,
        open_store=Opener(settings),
        defaults=settings.defaults(),
        options=engine_options(settings),
        threads=settings.handlers.threads,
        remote=remote.options,
    )
    spans = make_spans(settings.tracing)
    if spans is not None:
        attach(spans, system)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    allow_many_files()
    try:
        apps = HostedApps(loaded.apps, settings.handlers.threads)
        uvloop.run(_serve(settings, system, remote, apps, listeners, lifeline, versions))
    finally:
        if spans is not None:
            spans.close()


async def _serve(
    settings: Settings,
    system: System,
    remote: Remote,
    apps: HostedApps,
    listeners: server.Listeners | None,
    lifeline: int | None,
    versions: Versions | None,
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    _stop_on_signals(loop, stopping)
    if lifeline is not None:
        loop.add_reader(lifeline, stopping.set)
    server.check_addresses(settings)
    if listeners is None:
        listeners = server.listen(settings)  # a port that is taken leaves no data behind
    registrar = remote.registrar(clock_of(loop).now_ms, os.urandom, Registrar)

    async def prepare(engine: Engine) -> None:
        registrar.start(engine, engine.services())
        await apps.deploy(registrar)
        if versions is not None:
            versions.host.on_enter = system.on_enter
            await versions.start(engine, registrar)
        _stop_on_signals(
            loop, stopping
        )  # apps on the official SDK take SIGTERM at their first call

    try:
        await system.start(prepare)
        await _serve_until(stopping, settings, system, registrar, listeners, versions)
    finally:
        if versions is not None:
            versions.host.close()
        if lifeline is not None:
            loop.remove_reader(lifeline)
        await apps.close()
    say("Stopped.")


async def _serve_until(
    stopping: asyncio.Event,
    settings: Settings,
    system: System,
    registrar: Registrar,
    listeners: server.Listeners,
    versions: Versions | None,
) -> None:
    slow = SlowHandlers(settings.engine.slow_handler_warning_ms / 1000)
    slow.start()
    gc.collect()
    gc.freeze()  # what is loaded stays; collecting it again and again would cost a tenth of the time
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        await registrar.settle()
        if versions is not None:
            await versions.settle()
        book = OperatorBook(BookFile(settings.data))
        gateway = await server.start(system.engine, settings, registrar, book, listeners, versions)
        _tell(settings, system, gateway)
        try:
            await stopping.wait()
            say("Stopping: waiting for requests in flight ...")
        finally:
            await gateway.stop()
    finally:
        slow.stop()
        await system.stop()


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)


def allow_many_files() -> None:
    """Each connection is a file, and many systems start with 1,024 where 20,000 are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system that refuses keeps what it has
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Opener:
    """Opens the store of these settings' partition, as often as it is needed."""

    def __init__(self, settings: Settings, placement: Placement = ALONE) -> None:
        self._path = settings.data
        self._placement = placement
        sizes = settings.store
        self._options = LevelDBOptions(
            write_buffer_bytes=sizes.write_buffer_size_bytes,
            max_file_bytes=sizes.max_file_size_bytes,
            cache_bytes=sizes.cache_size_bytes,
        )

    async def __call__(self) -> Store:
        store = prepare_partitions(self._path, self._placement.count)[self._placement.index]
        return await asyncio.to_thread(
            open_store, store, new_id=lambda: os.urandom(16), options=self._options
        )


def engine_options(settings: Settings) -> EngineOptions:
    engine = settings.engine
    return EngineOptions(
        in_flight_limit=engine.in_flight_limit,
        mailbox_limit=engine.mailbox_limit,
        partition=PartitionOptions(
            cleanup_interval_s=engine.cleanup_interval_ms / 1000,
            idle_actor_timeout_s=engine.idle_actor_timeout_ms / 1000,
            open_attempts_limit=engine.open_attempts_limit,
            resident_attempts_limit=engine.resident_attempts_limit,
            state_cache_bytes=engine.state_cache_size_bytes,
            restart_limit=engine.restart_intensity,
            restart_window_s=engine.restart_window_ms / 1000,
        ),
    )


def describe_services(services: Mapping[str, Service]) -> list[str]:
    """A line for each."""
    return [
        f"{each.type.value:<14} {name}: {', '.join(each.handlers)}"
        for name, each in sorted(services.items())
    ]


def _tell(settings: Settings, system: System, gateway: server.Gateway) -> None:
    """What is served, where, and what the disk promises."""
    for line in describe_services(system.engine.services()):
        say(line)
    fsync_us = system.engine.store.fsync_us
    say(f"Ingress  {gateway.ingress_url}")
    say(f"Admin    {gateway.admin_url}")
    say(f"Data     {os.path.abspath(settings.data)} (fsync {fsync_us:.0f} µs)")
    warn_of_fsync(fsync_us)
    say("Ready.")


def warn_of_fsync(fsync_us: float) -> None:
    if fsync_us < SUSPICIOUS_FSYNC_US:
        log.warning(
            "an fsync in %.0f µs is too good to be true: this file system (memory, or a container "
            "layer) may lose acknowledged work in a power cut; put the data on a real disk",
            fsync_us,
        )


def say(line: str) -> None:
    """A line for whoever started the server."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)
