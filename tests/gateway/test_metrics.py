"""`GET /metrics`: what was done is counted, the formats are Prometheus's, and labels stay few."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from perdure.actors.counts import OTHERS, Counts
from perdure.journal.entries import Failure, Value
from perdure.journal.events import Complete
from perdure.journal.histogram import Histogram
from perdure.journal.records import RUNNING, Invocation
from perdure.journal.schema import HandlerType
from tests.gateway import shop
from tests.gateway.real import Real, real
from tests.gateway.serving import Served, served
from tests.gateway.test_cli_replay import ended, send

PATIENCE_S = 30
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Real]:
    with real(shop.app, tmp_path / "data") as each:
        yield each


def scrape(on: Real) -> Samples:
    answer = httpx.get(on.admin_url + "metrics", trust_env=False)
    assert answer.status_code == 200
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in parse(answer.text)
        for each in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"perdure_{name}", tuple(sorted(labels.items()))]


def test_invocations_attempts_and_requests_are_counted(on: Real) -> None:
    ended(on, "Shop/ada/order", "3")
    ended(on, "Shop/ada/order", "404")
    on.run("call", "Shop/ada/nothing", "1")
    waiting = send(on, "Shop/bob/order", "13")
    on.await_status(waiting, "running")
    failing = send(on, "Shop/eve/broken", "1")
    on.await_status(failing, "backing-off")
    found = scrape(on)
    completed = "invocations_completed_total"
    assert value(found, completed, service="Shop", outcome="success") == 1
    assert value(found, completed, service="Shop", outcome="failure") == 1
    assert value(found, "attempts_started_total", service="Shop") >= 4
    assert value(found, "attempts_failed_total", service="Shop") == 1
    assert value(found, "attempts_open", deployment="in-process") >= 1
    assert value(found, "ingress_requests_total", status="202") == 4
    assert value(found, "ingress_requests_total", status="404") == 1
    assert value(found, "ingress_request_duration_seconds_count") == 5
    assert value(found, "commit_duration_seconds_count") > 0
    assert value(found, "store_sync_duration_seconds_count") > 0
    deadline_s = time.monotonic() + PATIENCE_S
    while value(found, "timer_lateness_seconds_count") < 2 and time.monotonic() < deadline_s:
        found = scrape(on)  # timers fire a moment after the answers
    assert value(found, "timer_lateness_seconds_count") >= 2
    assert value(found, "store_size_bytes") > 0
    assert value(found, "partition_up") == 1
    assert value(found, "object_actors") >= 4
    assert ("process_resident_memory_bytes", ()) in found


def test_both_formats_of_prometheus_are_spoken(on: Real) -> None:
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(on.admin_url + "metrics", headers=asked, trust_env=False)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert len(list(parse_openmetrics(answer.text))) > 20  # type: ignore[no-untyped-call]
    plain = httpx.get(on.admin_url + "metrics", trust_env=False)
    assert plain.headers["content-type"].startswith("text/plain")


def test_a_gateway_without_an_engine_tells_of_itself() -> None:
    async def test(on: Served) -> None:
        text = (await on.admin.get("/metrics")).text
        assert "perdure_ingress_requests_in_flight" in text
        assert "perdure_partition_up" not in text
        assert (await on.admin.get("/tree")).status_code == 501

    served(test)


def record(service: str) -> Invocation:
    return Invocation(service, "f", None, HandlerType.SERVICE, RUNNING, 0, 0, 0, "ingress")


def test_services_beyond_the_limit_are_counted_together() -> None:
    counts = Counts()
    for number in range(5_000):
        for result in (Value(b""), Failure(500, "no")):
            counts.ended_by(Complete(b"", result), record(f"S{number}"))
    counts.ended_by(Complete(b"", Value(b"")), None)  # forgotten: nothing to count it for
    for counted in (counts.succeeded, counts.failed):
        assert len(counted) <= 501
        assert OTHERS in counted
        assert sum(counted.values()) == 5_000


def test_a_histogram_counts_a_value_at_its_bound_below_it() -> None:
    histogram = Histogram((1.0, 10.0))
    for each in (0.5, 1.0, 1.1, 10.0, 11.0):
        histogram.add(each)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 23.6


def test_nothing_of_prometheus_is_loaded_before_the_first_scrape() -> None:
    code = (
        "import sys, perdure.gateway.up; "
        "print([m for m in sys.modules if m.startswith(('prometheus_client', 'opentelemetry'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
