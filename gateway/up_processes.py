"""`perdure up --system processes`: the tree of processes, until a signal. This process is its watchdog.

It loads no code of the user and opens no store: from it everything else is forked. It holds the two ports
without listening, so that they stay ours whoever dies.
"""

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from perdure.actors.processes.messages import Peer, Up
from perdure.actors.processes.plan import Exhausted, Plan, Strategy, WorkerSpec
from perdure.actors.processes.watchdog import Watchdog
from perdure.actors.processes.worker import StartRefused, StoreRefused
from perdure.gateway import held_ports, server
from perdure.gateway.process_workers import GATEWAY, PARTITION, Orders, encode_orders
from perdure.gateway.registry_everywhere import SEED_BYTES
from perdure.gateway.settings import Settings, SettingsError
from perdure.gateway.settings_sources import with_ports
from perdure.gateway.up import say, warn_of_fsync
from perdure.gateway.version_code import project_of
from perdure.gateway.version_store import VersionStore
from perdure.journal.before_opening import check_data, check_stores
from perdure.journal.datadir import unusable
from perdure.journal.errors import PerdureError, StoreError
from perdure.journal.layout import find_layout, prepare_partitions, unprepare_partitions

log = logging.getLogger("perdure.up")

_PRELOAD = ("perdure.gateway.process_workers", "perdure.gateway.sql.workers", "plyvel", "uvloop")


def run(
    settings: Settings,
    targets: list[str],
    *,
    keeps_versions: bool = False,
    listeners: server.Listeners | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Raises SettingsError or StoreError where it can't start.

    ``listeners``: sockets that somebody else holds as well, and on which the gateways accept.
    """
    server.check_addresses(settings)
    check_data(settings.data, settings.partitions)
    teller = _Teller(settings)
    with Watchdog(
        settings.data, teller
    ) as watchdog:  # who served this data is gone, with its ports
        if listeners is not None:
            held_ports.leave(listeners)
        held = _hold_ports(settings) if listeners is None else listeners
        with closing(held), _prepared(settings):
            settings = with_ports(settings, *(each.getsockname()[1] for each in held if each))
            code = _take_code(settings, targets) if keeps_versions else ""
            try:
                watchdog.run(_plan(settings, targets, code))
            except StoreRefused as error:
                raise StoreError(str(error)) from error
            except StartRefused as error:
                raise SettingsError(str(error)) from error
    say("Stopped.")


@contextmanager
def _prepared(settings: Settings) -> Iterator[None]:
    """With directories for all partitions; those of a start that is refused are gone again if unused."""
    data, count = settings.data, settings.partitions
    is_new = find_layout(data) is None
    try:
        try:
            prepare_partitions(data, count)
        except OSError as error:
            raise unusable(Path(data), error) from error
        check_stores(data, count)
        yield
    except PerdureError:
        if is_new:
            unprepare_partitions(data, count)
        raise


def _hold_ports(settings: Settings) -> server.Listeners:
    """Raises SettingsError where somebody else has one: sharing is for our own processes."""
    server.listen(settings, backlog=0).close()
    return server.listen(settings, is_shared=True, backlog=0)


def _take_code(settings: Settings, targets: list[str]) -> str:
    """Copy the code as it is now, which all processes load."""
    project, _ = project_of(targets)
    return VersionStore(settings.data).take(project)


def _plan(settings: Settings, targets: list[str], code: str) -> Plan:
    seed, moment_ms = secrets.token_bytes(SEED_BYTES), int(time.time() * 1000)
    orders = Orders(settings, targets, seed, moment_ms, code)
    payload = encode_orders(orders)

    def spec(kind: str, index: int, stage: int, factory: str, exhausted: Exhausted) -> WorkerSpec:
        where = f"perdure.gateway.process_workers:{factory}"
        return WorkerSpec(f"{kind}-{index}", kind, index, where, payload, stage, exhausted)

    partitions = [
        spec(PARTITION, index, 0, "PartitionWorker", Exhausted.DOWN)
        for index in range(settings.partitions)
    ]
    gateways = [  # the first one settles the registry, and the others begin with that
        spec(GATEWAY, index, 1 if index == 0 else 2, "GatewayWorker", Exhausted.ESCALATE)
        for index in range(settings.gateways)
    ]
    return Plan((*partitions, *gateways), _strategy(settings), _PRELOAD)


def _strategy(settings: Settings) -> Strategy:
    given = settings.supervisor
    return Strategy(
        intensity=given.restart_intensity,
        window_s=given.restart_window_ms / 1000,
        longest_backoff_s=given.longest_backoff_ms / 1000,
        start_timeout_s=given.start_timeout_ms / 1000,
        stop_timeout_s=given.stop_timeout_ms / 1000,
        heartbeat_interval_s=given.heartbeat_interval_ms / 1000,
        heartbeat_timeout_s=given.heartbeat_timeout_ms / 1000,
    )


class _Teller:
    """Says what is served, where, and what the disk promises; once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._has_told = False

    def __call__(self, up: Up) -> None:
        for name, reason in up.down.items():
            log.error("%s is down: %s", name, reason)
        if self._has_told:
            return
        self._has_told = True
        peers = {peer.name: peer for peer in up.peers}
        first = peers["gateway-0"].info
        say(first["services"])
        say(f"Ingress  {first['ingress']}")
        say(f"Admin    {first['admin']}")
        fsync_us = _fsync_us(up.peers)
        count = self._settings.partitions
        say(
            f"Data     {os.path.abspath(self._settings.data)} ({count} partitions, fsync {fsync_us} µs)"
        )
        warn_of_fsync(fsync_us)
        say("Ready.")


def _fsync_us(peers: tuple[Peer, ...]) -> int:
    """Of the slowest; 0 where all partitions are down."""
    return max((int(peer.info["fsync_us"]) for peer in peers if peer.kind == PARTITION), default=0)
