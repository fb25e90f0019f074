"""The workers of `perdure up --system processes`: what a partition's and a gateway's process run.

Each is put together of parts that the embedded system has in one process. Who starts them, and when:
gateway/up_processes.py; who keeps them alive: actors/processes.
"""

import asyncio
import gc
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from perdure.actors.clock import clock_of
from perdure.actors.engine import Engine
from perdure.actors.inspector import Inspector
from perdure.actors.loop_lag import LoopLag
from perdure.actors.plane.cluster import Cluster
from perdure.actors.plane.links import Links
from perdure.actors.plane.options import PlaneOptions
from perdure.actors.plane.remote import RemotePartition
from perdure.actors.plane.server import PlaneServer
from perdure.actors.plane.serving import Served
from perdure.actors.processes.messages import Peer
from perdure.actors.processes.status import ProcessTree
from perdure.actors.processes.worker import Start, StartRefused, StoreRefused, Tree
from perdure.actors.registry import Registry
from perdure.actors.slow_handlers import SlowHandlers
from perdure.describe import describe
from perdure.embedded import System, flatten
from perdure.gateway import held_ports, server
from perdure.gateway.deployments import Registrar
from perdure.gateway.hosted import HostedApps
from perdure.gateway.operator_book import BookFile, OperatorBook
from perdure.gateway.registry_everywhere import ClusterDeployments, Follower, Leader, SameStart
from perdure.gateway.remote import Remote
from perdure.gateway.settings import Settings, SettingsError
from perdure.gateway.targets import Loaded, load_all
from perdure.gateway.tracing_setup import attach, make_spans
from perdure.gateway.up import (
    GC_THRESHOLDS,
    SWITCH_INTERVAL_S,
    Opener,
    allow_many_files,
    describe_services,
    engine_options,
)
from perdure.gateway.version_host import VersionHost
from perdure.gateway.versions_everywhere import ClusterVersions, PartitionVersions
from perdure.journal.errors import StoreError
from perdure.journal.inspecting import answer_bytes
from perdure.journal.placement import Placement
from perdure.journal.requests import Runtime
from perdure.journal.schedules_requests import Declare

log = logging.getLogger("perdure.up")

PARTITION: Final = "partition"
GATEWAY: Final = "gateway"
_REGISTRY_CHANGED: Final = b"registry"
_SERVICES_BYTES: Final = 32 * 1024


class Orders(msgspec.Struct, frozen=True):
    """What every worker has from `perdure up`. ``seed``, ``moment_ms``: see SameStart.

    ``code``: the version of the start, "" where no versions are kept.
    """

    settings: Settings
    targets: list[str]
    seed: bytes
    moment_ms: int
    code: str = ""


encode_orders = msgspec.msgpack.Encoder().encode
_decode_orders = msgspec.msgpack.Decoder(Orders).decode


def plane_options(settings: Settings) -> PlaneOptions:
    given = settings.plane
    return PlaneOptions(
        frame_limit_bytes=given.frame_size_limit_bytes,
        in_flight_limit=given.in_flight_limit,
        in_flight_limit_bytes=given.in_flight_size_limit_bytes,
        hold_limit=given.hold_limit,
        hold_s=given.hold_ms / 1000,
        brief_hold_s=given.brief_hold_ms / 1000,
        window_count=given.window,
        window_bytes=given.window_size_bytes,
    )


class _Process:
    """What both kinds have: the user's code, the settings, the registry."""

    def __init__(self, start: Start) -> None:
        orders = _decode_orders(start.payload)
        self.me = start
        self.settings = orders.settings
        self.host: VersionHost | None = None
        self._orders = orders
        try:
            self.loaded = self._load(orders)
            self.remote = Remote(self.settings)
        except SettingsError as error:
            raise StartRefused(str(error)) from error
        self.apps = HostedApps(self.loaded.apps, self.settings.handlers.threads)
        self.same = SameStart(orders.seed, orders.moment_ms, clock_of(_loop()).now_ms)
        self._is_current = False  # with the registry, as it was when the tree began to tell changes
        self._slow = SlowHandlers(self.settings.engine.slow_handler_warning_ms / 1000)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        allow_many_files()

    def _load(self, orders: Orders) -> Loaded:
        if not orders.code:
            return load_all(orders.targets)
        self.host = VersionHost(orders.settings, orders.targets, orders.code)
        return self.host.load(orders.code)

    @property
    def first_code(self) -> str:
        """What takes what is new from the start on; "" once that is registered, as others may follow."""
        orders = self._orders
        is_registered = self.host is None or self.host.store.is_marked(orders.seed.hex())
        return "" if is_registered else orders.code

    def began(self) -> None:
        self.same.over()
        self._slow.start()
        gc.set_threshold(*GC_THRESHOLDS)

    async def follow(self, registrar: Registrar) -> None:
        """What was told before we were up was told to others alone, but it is in the file."""
        if isinstance(registrar, Follower):
            await registrar.reload()
        self._is_current = True

    async def ended(self) -> None:
        self._slow.stop()
        await self.apps.close()


class PartitionWorker(_Process):
    """One engine on its own store, reached over a socket by gateways and other partitions."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        settings = self.settings
        self._placement = Placement(start.index, settings.partitions)
        self._system = System(
            self.loaded.services,
            open_store=Opener(settings, self._placement),
            defaults=settings.defaults(),
            options=engine_options(settings),
            threads=settings.handlers.threads,
            remote=self.remote.options,
            placement=self._placement,
        )
        self._spans = make_spans(settings.tracing)
        if self._spans is not None:
            attach(self._spans, self._system)
        self._registrar = self.remote.registrar(self.same.now_ms, self.same.random_bytes, Follower)
        self._lag = LoopLag()
        self._control: Served | None = None
        if self.host is not None:
            self._registrar.versions = self.host
            self._control = PartitionVersions(self.host, self._registrar).answer

    async def start(self, tree: Tree) -> dict[str, str]:
        try:
            await self._system.start(self._prepare)
        except SettingsError as error:
            raise StartRefused(str(error)) from error
        except StoreError as error:
            raise StoreRefused(str(error)) from error
        engine = self._system.engine
        self._server = PlaneServer(
            self.me.name,
            self.me.epoch,
            engine=engine,
            receiver=engine.exchange,
            inspect=partial(answer_bytes, Inspector(engine, self._lag)),
            control=self._control,
            options=plane_options(self.settings),
        )
        await self._server.listen(Path(self.me.socket))
        self._lag.start()
        self.began()
        return {"fsync_us": f"{engine.store.fsync_us:.0f}"}

    async def _prepare(self, engine: Engine) -> None:
        self._registrar.start(engine, engine.services())
        await self.apps.deploy(self._registrar)
        if self.host is not None:
            self.host.on_enter = self._system.on_enter
            await self.host.deploy_known(self._registrar, self.first_code)
            engine.schedules.declared = self._declared(engine, self.host)
        options = plane_options(self.settings)
        self._links = Links(engine.exchange, self._placement, self.me.epoch, options)
        engine.exchange.carry = self._links.forward

    def _declared(self, engine: Engine, host: VersionHost) -> Declare:
        return host.schedules_at(engine.registry, self._registrar.records())

    async def introduced(self, peers: tuple[Peer, ...], down: dict[str, str]) -> None:
        if not self._is_current:
            await self.told(_REGISTRY_CHANGED)
        for peer in peers:
            if peer.kind == PARTITION and peer.index != self.me.index:
                self._links.introduce(peer.index, Path(peer.socket), peer.epoch)

    async def told(self, body: bytes) -> None:
        assert body == _REGISTRY_CHANGED
        await self.follow(self._registrar)
        self._server.registry_changed()
        if self.host is not None:
            await self._declare_anew(self._system.engine, self.host)

    async def _declare_anew(self, engine: Engine, host: VersionHost) -> None:
        """What new code says of schedules; while the store is down, it is said when that is back."""
        wanted = self._declared(engine, host)
        if wanted != engine.schedules.declared:
            try:
                await engine.schedules.declare(wanted)
            except StoreError as error:
                log.warning("schedules of the new code are declared later: %s", error)

    async def stop(self) -> None:
        self._lag.stop()
        await self._server.close()
        await self._links.close()
        await self._system.stop()
        await self.ended()
        if self._spans is not None:
            self._spans.close()


class ProcessesRuntime(Cluster):
    """``Runtime`` over all partitions, and the tree of processes around it."""

    tree: Tree

    async def process_tree(self) -> ProcessTree:
        return await self.tree.status()


class GatewayWorker(_Process):
    """The ingress; the first one has the admin API, too, and writes what operators change."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        settings = self.settings
        self._is_first = start.index == 0
        definitions, _ = flatten(self.loaded.services)
        services = [describe(each, settings.defaults()) for each in definitions]
        registry = Registry(services)
        self._in_process = {each.name: each for each in services}
        options = plane_options(settings)
        self._partitions = [
            RemotePartition(index, registry, options) for index in range(settings.partitions)
        ]
        self._cluster = ProcessesRuntime(
            self._partitions,
            registry,
            now_ms=clock_of(_loop()).now_ms,
            random_bytes=os.urandom,
        )
        self._deployments = ClusterDeployments(self._cluster, registry, self.remote.options)
        self._registrar = self._make_registrar()
        self._versions: ClusterVersions | None = None
        self._tidying: asyncio.Task[None] | None = None
        if self.host is not None and isinstance(self._registrar, Leader):
            self._versions = ClusterVersions(
                self.host, self._registrar, self._partitions, self._orders.code
            )

    def _make_registrar(self) -> Leader | Follower:
        same = self.same
        if self._is_first:
            return self.remote.registrar(same.now_ms, same.random_bytes, Leader)
        follower = self.remote.registrar(same.now_ms, same.random_bytes, Follower)
        follower.versions = self.host
        return follower

    async def start(self, tree: Tree) -> dict[str, str]:
        self._cluster.tree = tree
        settings, registrar = self.settings, self._registrar
        try:
            registrar.start(self._deployments, self._in_process)
            await self.apps.deploy(registrar)
            if self._versions is not None:
                await self._versions.begin(self.first_code)
            elif self.host is not None:
                await self.host.deploy_known(registrar, self.first_code)
            book = None
            if isinstance(registrar, Leader):
                registrar.tell_all = partial(tree.broadcast, _REGISTRY_CHANGED)
                await registrar.settle()
                if self.host is not None:
                    self.host.store.mark(self._orders.seed.hex())
                book = OperatorBook(BookFile(settings.data))
            listeners = held_ports.of_gateway(settings, self._is_first)
            runtime: Runtime = self._cluster
            self._gateway = await server.start(
                runtime, settings, registrar, book, listeners, self._versions
            )
        except SettingsError as error:
            raise StartRefused(str(error)) from error
        self.began()
        urls = {"ingress": self._gateway.ingress_url, "admin": self._gateway.admin_url}
        if not self._is_first:
            return urls
        return urls | {"services": _brief(describe_services(self._cluster.services()))}

    async def introduced(self, peers: tuple[Peer, ...], down: dict[str, str]) -> None:
        for peer in peers:
            if peer.kind == PARTITION:
                self._partitions[peer.index].introduce(Path(peer.socket), peer.epoch)
        for partition in self._partitions:
            if partition.name in down:
                partition.down(down[partition.name])
        if not self._is_current:
            await self.told(_REGISTRY_CHANGED)
            if self._versions is not None:
                self._tidying = asyncio.create_task(self._versions.settle())

    async def told(self, body: bytes) -> None:
        assert body == _REGISTRY_CHANGED
        await self.follow(self._registrar)

    async def stop(self) -> None:
        await self._gateway.stop()
        if self._tidying is not None:
            self._tidying.cancel()
        await self._cluster.close()
        await self._deployments.deployments.close()
        await self.ended()


def _brief(lines: list[str]) -> str:
    """As many lines as fit a message beside all else that processes are told at their start."""
    room = _SERVICES_BYTES
    for count, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return "\n".join([*lines[:count], f"and {len(lines) - count} more services"])
    return "\n".join(lines)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
