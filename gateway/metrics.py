"""`GET /metrics` in the formats of Prometheus: reads what is counted anyway, when somebody scrapes.

Loads prometheus_client at the first scrape. The values of every label are bounded: services are cut off
by actors/counts.py, statuses by HTTP, deployments by how many there are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from perdure.actors.engine import Engine
from perdure.actors.partition import Partition
from perdure.gateway.console.meter import Meter, bucket_end_us
from perdure.gateway.loop_lag import LoopLag
from perdure.journal.histogram import Histogram
from perdure.journal.leveldb import LevelDBStore
from perdure.journal.requests import Runtime

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_BOUNDS_S: Final = tuple(2.0**exponent / 1e6 for exponent in range(7, 28))  # 128 µs to 134 s
_HERE: Final = "in-process"  # the label of handlers in this process


class Metrics:
    """``operations``: by the names in the table of routes."""

    def __init__(self, runtime: Runtime, ingress: Meter | None, lag: LoopLag | None) -> None:
        self._engine = runtime if isinstance(runtime, Engine) else None
        self._ingress = ingress
        self._lag = lag
        self._store_bytes = 0
        self._registry: CollectorRegistry | None = None
        self.operations: dict[str, Callable[..., Awaitable[web.Response]]] = {
            "metrics": self._metrics
        }

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = self._new_registry()
        partition = None if self._engine is None else self._engine.partition
        if partition is not None:
            self._store_bytes = await asyncio.to_thread(partition.store.approximate_bytes)
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        body = encode(self._registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    def _new_registry(self) -> "CollectorRegistry":
        from prometheus_client import (
            CollectorRegistry,
            GCCollector,
            PlatformCollector,
            ProcessCollector,
        )

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(self)
        return registry

    def collect(self) -> "Iterator[Metric]":
        """Called by prometheus_client at each scrape, on the loop."""
        yield _gauge("build", "The version that runs.", {(version("perdure"),): 1}, ("version",))
        if self._ingress is not None:
            yield from _of_ingress(self._ingress)
        if self._lag is not None:
            help = "How late the event loop is for its appointments."
            yield _histogram("loop_lag_seconds", help, self._lag.late_s)
        if self._engine is not None:
            yield from _of_engine(self._engine)
            partition = self._engine.partition
            if partition is not None:
                yield from _of_partition(partition, self._engine.system.dead_letter_count)
                help = "The size of the store's files."
                yield _gauge("store_size_bytes", help, {(): self._store_bytes})


def _of_ingress(meter: Meter) -> "Iterator[Metric]":
    statuses = {(str(status),): n for status, n in meter.statuses.items()}
    yield _counter("ingress_requests", "Requests that were answered.", statuses, ("status",))
    help = "From the head of a request to its answer; waiting calls wait that long."
    yield _histogram("ingress_request_duration_seconds", help, _durations(meter))
    help = "Requests that are being carried out or waited for."
    yield _gauge("ingress_requests_in_flight", help, {(): meter.open_requests})


def _durations(meter: Meter) -> Histogram:
    """The meter's buckets, eight of them in one; each bound is the end of one of them."""
    histogram = Histogram(_BOUNDS_S)
    for bucket, count in enumerate(meter.buckets):
        if count:
            histogram.add(bucket_end_us(bucket) / 1e6, count)
    histogram.total = meter.total_s
    return histogram


def _of_engine(engine: Engine) -> "Iterator[Metric]":
    counts = engine.counts
    ended = {(service, "success"): n for service, n in counts.succeeded.items()}
    ended |= {(service, "failure"): n for service, n in counts.failed.items()}
    help = "Invocations that ended."
    yield _counter("invocations_completed", help, ended, ("service", "outcome"))
    attempts = {(service,): n for service, n in counts.attempts.items()}
    yield _counter("attempts_started", "Attempts, replays included.", attempts, ("service",))
    failed = {(service,): n for service, n in counts.failed_attempts.items()}
    help = "Attempts that failed without an answer and are retried, or paused."
    yield _counter("attempts_failed", help, failed, ("service",))
    help = "Commits of groups of decided steps, until they are durable and known to be."
    yield _histogram("commit_duration_seconds", help, counts.commit_s)
    yield _histogram("commit_writes", "Rows in each commit.", counts.commit_writes)
    help = "How much later than due timers fired; after a restart that counts from before."
    yield _histogram("timer_lateness_seconds", help, counts.timer_late_s)
    up = int(engine.partition is not None)
    yield _gauge("partition_up", "Whether the partition's store is open.", {(): up})
    help = "How often the partition failed and was opened again."
    yield _counter("partition_restarts", help, {(): engine.restart_count})


def _of_partition(partition: Partition, dead_letters: int) -> "Iterator[Metric]":
    open_attempts = partition.attempts.counts_by_deployment()
    shown = {(id or _HERE,): n for id, n in open_attempts.items()}
    help = "Open attempts; one stream each where the deployment is elsewhere, else one coroutine."
    yield _gauge("attempts_open", help, shown, ("deployment",))
    help = "Open attempts that wait and keep their coroutine or stream."
    yield _gauge("attempts_waiting", help, {(): partition.attempts.waiting_count})
    yield from _of_actors(partition)
    yield _counter("dead_letters", "Messages to actors that had ended.", {(): dead_letters})
    help = "Timers in memory, the nearest ones; all of them are in the store."
    yield _gauge("timers_in_memory", help, {(): len(partition.timers)})
    store = partition.store
    if isinstance(store, LevelDBStore):
        help = "Writes of commits to the disk with their sync."
        yield _histogram("store_sync_duration_seconds", help, store.sync_s)
    help = "A sync of a small append, measured when the store was opened; the median."
    yield _gauge("store_fsync_probe_seconds", help, {(): store.fsync_us / 1e6})


def _of_actors(partition: Partition) -> "Iterator[Metric]":
    depth = deepest = waiting = 0
    for address, cell in partition.directory.iter_actors():
        depth += cell.mailbox_depth
        deepest = max(deepest, cell.mailbox_depth)
        waiting += partition.tables.waiting_count(address)
    yield _gauge("object_actors", "Object actors in memory.", {(): len(partition.directory)})
    yield _gauge("mailbox_messages", "Messages in all mailboxes of actors.", {(): depth})
    yield _gauge("mailbox_messages_deepest", "Messages in the fullest mailbox.", {(): deepest})
    help = "Invocations that wait for the lock of a key whose actor is in memory."
    yield _gauge("inbox_waiting", help, {(): waiting})


# ---- to prometheus_client ------------------------------------------------------------------------


def _counter(
    name: str, help: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()
) -> "Metric":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"perdure_{name}", help, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _gauge(
    name: str, help: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()
) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"perdure_{name}", help, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(name: str, help: str, histogram: Histogram) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"perdure_{name}", help)
    buckets, so_far = [], 0
    counts = list(histogram.counts)  # another thread may add to it meanwhile
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    family.add_metric((), buckets, histogram.total)
    return family
