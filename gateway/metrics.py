"""`GET /metrics` in the formats of Prometheus: reads what is counted anyway, when somebody scrapes.

Loads prometheus_client at the first scrape. The values of every label are bounded: services are cut off
by actors/counts.py, statuses by HTTP, deployments by how many there are.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import reduce
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from perdure.actors.loop_lag import LoopLag
from perdure.gateway.console.meter import Meter, bucket_end_us
from perdure.gateway.inspected import inspection_of
from perdure.journal.histogram import Histogram
from perdure.journal.inspecting import CountWork, Histo, PartitionWork, Work
from perdure.journal.requests import Runtime

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_BOUNDS_S: Final = tuple(2.0**exponent / 1e6 for exponent in range(7, 28))  # 128 µs to 134 s
_HERE: Final = "in-process"  # the label of handlers in this process


class Metrics:
    """``operations``: by the names in the table of routes."""

    def __init__(self, runtime: Runtime, ingress: Meter | None, lag: LoopLag | None) -> None:
        self._inspection = inspection_of(runtime)
        self._ingress = ingress
        self._lag = lag
        self._work: Work | None = None
        self._registry: CollectorRegistry | None = None
        self.operations: dict[str, Callable[..., Awaitable[web.Response]]] = {
            "metrics": self._metrics
        }

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = self._new_registry()
        work: Work | None = None
        if self._inspection is not None:
            work = await self._inspection.inspect(CountWork())
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        self._work = work  # read by ``collect``, without a pause in between
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
            yield _histogram("loop_lag_seconds", help, Histo.of(self._lag.late_s))
        if self._work is not None:
            yield from _of_engine(self._work)
            up = [each for each in self._work.partitions if each.is_up]
            if up:
                yield from _of_partitions(up, _labels(self._work))


def _of_ingress(meter: Meter) -> "Iterator[Metric]":
    statuses = {(str(status),): n for status, n in meter.statuses.items()}
    yield _counter("ingress_requests", "Requests that were answered.", statuses, ("status",))
    help = "From the head of a request to its answer; waiting calls wait that long."
    yield _histogram("ingress_request_duration_seconds", help, _durations(meter))
    help = "Requests that are being carried out or waited for."
    yield _gauge("ingress_requests_in_flight", help, {(): meter.open_requests})


def _durations(meter: Meter) -> Histo:
    """The meter's buckets, eight of them in one; each bound is the end of one of them."""
    histogram = Histogram(_BOUNDS_S)
    for bucket, count in enumerate(meter.buckets):
        if count:
            histogram.add(bucket_end_us(bucket) / 1e6, count)
    histogram.total = meter.total_s
    return Histo.of(histogram)


def _of_engine(work: Work) -> "Iterator[Metric]":
    labels = _labels(work)
    up = {_label(p.partition, labels): int(p.is_up) for p in work.partitions}
    up |= {_label(each.partition, labels): 0 for each in work.missing}
    yield _gauge("partition_up", "Whether the partition's store is open.", up, labels)
    if work.partitions:
        yield from _since_begin(work.partitions, labels)


def _since_begin(parts: list[PartitionWork], labels: tuple[str, ...]) -> "Iterator[Metric]":
    """Since each engine began; what partitions counted is added up."""
    ended = {(service, "success"): n for service, n in _sum(p.succeeded for p in parts).items()}
    ended |= {(service, "failure"): n for service, n in _sum(p.failed for p in parts).items()}
    help = "Invocations that ended."
    yield _counter("invocations_completed", help, ended, ("service", "outcome"))
    attempts = {(service,): n for service, n in _sum(p.attempts for p in parts).items()}
    yield _counter("attempts_started", "Attempts, replays included.", attempts, ("service",))
    failed = {(service,): n for service, n in _sum(p.failed_attempts for p in parts).items()}
    help = "Attempts that failed without an answer and are retried, or paused."
    yield _counter("attempts_failed", help, failed, ("service",))
    help = "Commits of groups of decided steps, until they are durable and known to be."
    yield _histogram("commit_duration_seconds", help, _add(p.commit_s for p in parts))
    writes = _add(p.commit_writes for p in parts)
    yield _histogram("commit_writes", "Rows in each commit.", writes)
    help = "How much later than due timers fired; after a restart that counts from before."
    yield _histogram("timer_lateness_seconds", help, _add(p.timer_late_s for p in parts))
    help = "How often the partition failed and was opened again."
    restarts = {_label(p.partition, labels): p.restart_count for p in parts}
    yield _counter("partition_restarts", help, restarts, labels)
    lags = [p.loop_lag_s for p in parts if p.loop_lag_s is not None]
    if lags:
        help = "How late the event loops of partitions are that have a process of their own."
        yield _histogram("partition_loop_lag_seconds", help, _add(lags))


def _labels(work: Work) -> tuple[str, ...]:
    """One partition needs no label."""
    return ("partition",) if len(work.partitions) + len(work.missing) > 1 else ()


def _label(partition: int, labels: tuple[str, ...]) -> tuple[str, ...]:
    return (str(partition),) if labels else ()


def _of_partitions(up: list[PartitionWork], labels: tuple[str, ...]) -> "Iterator[Metric]":
    shown = {(id or _HERE,): n for id, n in _sum(p.open_attempts for p in up).items()}
    help = "Open attempts; one stream each where the deployment is elsewhere, else one coroutine."
    yield _gauge("attempts_open", help, shown, ("deployment",))
    help = "Open attempts that wait and keep their coroutine or stream."
    yield _gauge("attempts_waiting", help, {(): sum(p.waiting_attempts for p in up)})
    yield from _of_actors(up)
    help = "Messages to actors that had ended."
    yield _counter("dead_letters", help, {(): sum(p.dead_letters for p in up)})
    help = "Timers in memory, the nearest ones; all of them are in the store."
    yield _gauge("timers_in_memory", help, {(): sum(p.timers for p in up)})
    syncs = [p.sync_s for p in up if p.sync_s is not None]
    if syncs:
        help = "Writes of commits to the disk with their sync."
        yield _histogram("store_sync_duration_seconds", help, _add(syncs))
    help = "A sync of a small append, measured when the store was opened; the median."
    probes = {_label(p.partition, labels): p.fsync_probe_s for p in up}
    yield _gauge("store_fsync_probe_seconds", help, probes, labels)
    sizes = {_label(p.partition, labels): p.size_bytes for p in up}
    yield _gauge("store_size_bytes", "The size of the store's files.", sizes, labels)


def _of_actors(up: list[PartitionWork]) -> "Iterator[Metric]":
    actors, depth = sum(p.actors for p in up), sum(p.mailbox_messages for p in up)
    yield _gauge("object_actors", "Object actors in memory.", {(): actors})
    yield _gauge("mailbox_messages", "Messages in all mailboxes of actors.", {(): depth})
    deepest = max(p.deepest_mailbox for p in up)
    yield _gauge("mailbox_messages_deepest", "Messages in the fullest mailbox.", {(): deepest})
    help = "Invocations that wait for the lock of a key whose actor is in memory."
    yield _gauge("inbox_waiting", help, {(): sum(p.inbox_waiting for p in up)})


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for each in counts:
        for name, n in each.items():
            summed[name] = summed.get(name, 0) + n
    return summed


def _add(histograms: Iterable[Histo]) -> Histo:
    return reduce(lambda a, b: a + b, histograms)


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


def _histogram(name: str, help: str, histogram: Histo) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"perdure_{name}", help)
    buckets, so_far = [], 0
    bounds = (*map(str, histogram.bounds), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    family.add_metric((), buckets, histogram.total)
    return family
