"""Spans: one for each invocation, attempts below it, closures below those, callees below their callers."""

import asyncio
import gzip
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import perdure
from perdure.gateway.settings import Tracing
from perdure.gateway.tracing import SpanMaker, enter
from perdure.gateway.tracing_setup import make_spans
from perdure.journal import trace
from perdure.journal.ids import parse_invocation_id
from perdure.logcontext import InvocationFields
from tests.gateway import shop
from tests.gateway.real import Real, real

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"
seen: list[tuple[str, str]] = []

watched = perdure.Service("Watched")


@watched.handler()
async def look(ctx: perdure.Context) -> str:
    current = otel.get_current_span().get_span_context()
    record = logging.LogRecord("x", logging.INFO, "", 0, "hello", (), None)
    InvocationFields().filter(record)
    seen.append((f"{current.trace_id:032x}", vars(record)["trace_id"]))
    return f"{current.span_id:016x}"


class Traced(msgspec.Struct):
    on: Real
    exporter: InMemorySpanExporter

    def call(self, target: str, body: str, parent: str | None = None) -> str:
        """The invocation's id, once it is over."""
        headers = {"content-type": "application/json"} if body else {}
        if parent is not None:
            headers["traceparent"] = parent
        answer = httpx.post(
            self.on.ingress_url + target, content=body, headers=headers, trust_env=False
        )
        return answer.headers["x-restate-id"]

    def spans(self) -> dict[str, ReadableSpan]:
        """By name."""
        return {each.name: each for each in self.exporter.get_finished_spans()}


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    maker = SpanMaker(SimpleSpanProcessor(exporter), service_name="here")
    with real([shop.app, watched], tmp_path / "data", observer=maker, on_enter=enter) as on:
        yield Traced(on, exporter)


def parent_of(span: ReadableSpan) -> str:
    return "none" if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def test_a_tree_of_spans_begins_below_the_callers(traced: Traced) -> None:
    id = traced.call("Shop/ada/order", "3", PARENT)
    found = traced.spans()
    order, attempt = found["Shop/order"], found["attempt 1 of Shop/order"]
    callee, run = found["Stock/reserve"], found["run ticket"]
    for each in found.values():
        assert each.context is not None
        assert f"{each.context.trace_id:032x}" == PARENT[3:35]
        assert each.resource.attributes["service.name"] == "here"
        assert each.start_time is not None
        assert each.end_time is not None
        assert each.start_time <= each.end_time
    assert parent_of(order) == PARENT[36:52]
    assert parent_of(attempt) == id_of(order)
    assert parent_of(run) == id_of(attempt)
    assert parent_of(callee) == id_of(order)
    assert (order.kind, callee.kind) == (SpanKind.SERVER, SpanKind.INTERNAL)
    assert order.attributes is not None
    assert order.attributes["perdure.invocation.id"] == id
    assert order.attributes["perdure.key"] == "ada"
    names = [each.name for each in attempt.events]
    assert names[:2] == ["get_eager_state 'total'", "set_state 'total'"]
    assert "call Stock/reserve" in names
    assert len(traced.exporter.get_finished_spans()) == 5


def test_without_a_parent_the_trace_begins_here(traced: Traced) -> None:
    traced.call("Shop/ada/order", "3")
    found = traced.spans()
    assert parent_of(found["Shop/order"]) == "none"
    assert parent_of(found["Stock/reserve"]) == id_of(found["Shop/order"])


def test_a_failure_marks_the_span(traced: Traced) -> None:
    traced.call("Shop/ada/order", "404", PARENT)
    status = traced.spans()["Shop/order"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "out of stock")


def test_a_callers_decision_not_to_sample_is_followed(traced: Traced) -> None:
    traced.call("Shop/ada/order", "3", UNSAMPLED)
    assert traced.spans() == {}


def test_handlers_see_the_span_of_their_attempt_and_log_its_trace(traced: Traced) -> None:
    seen.clear()
    traced.call("Watched/look", "", PARENT)
    assert seen == [(PARENT[3:35], PARENT[3:35])]


def test_replayed_work_is_not_traced_twice(tmp_path: Path) -> None:
    """The process ends while the handler waits; another one replays it to its end."""
    exporter = InMemorySpanExporter()
    data = tmp_path / "data"
    maker = SpanMaker(SimpleSpanProcessor(exporter), service_name="first")
    with real(shop.app, data, observer=maker) as on:
        headers = {"content-type": "application/json", "traceparent": PARENT}
        sent = httpx.post(
            on.ingress_url + "Shop/ada/order/send", content="13", headers=headers, trust_env=False
        )
        id = sent.json()["invocationId"]

        async def until_it_waits() -> None:
            while True:
                entries = await on.system.journal(id) or []
                if len(entries) == 10:  # up to the end of the sleep
                    return
                await asyncio.sleep(0.01)

        on.on_loop(asyncio.wait_for(until_it_waits(), 20))
        callee = {each.name for each in exporter.get_finished_spans()}
        assert "Stock/reserve" in callee
        assert "Shop/order" not in callee
    before = [each.name for each in exporter.get_finished_spans()]
    maker = SpanMaker(SimpleSpanProcessor(exporter), service_name="second")
    with real(shop.app, data, observer=maker) as on:
        on.await_status(id, "running")
        on.on_loop(on.system.kill(id))
    later = list(exporter.get_finished_spans())[len(before) :]
    names = [each.name for each in later]
    assert names == ["attempt 2 of Shop/order", "Shop/order"]
    assert "run ticket" in before
    assert parent_of(later[0]) == id_of(later[1]) == trace.span_id(parse_invocation_id(id))


def test_tracing_is_off_without_an_endpoint_and_the_parent_is_kept_all_the_same(
    tmp_path: Path,
) -> None:
    assert make_spans(Tracing()) is None
    with real([shop.app, watched], tmp_path / "data") as on:
        seen.clear()
        Traced(on, InMemorySpanExporter()).call("Watched/look", "", PARENT)
        assert seen == [("0" * 32, PARENT[3:35])]


class _Collector(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        is_packed = self.headers["content-encoding"] == "gzip"
        self.bodies.append(gzip.decompress(body) if is_packed else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def test_sql_tells_the_trace_of_an_invocation(traced: Traced) -> None:
    id = traced.call("Shop/ada/order", "3", PARENT)
    query = f"select trace_id from sys_invocation_status where id = '{id}'"
    rows = json.loads(traced.on.run("sql", query, "--json").output)["rows"]
    assert rows == [{"trace_id": PARENT[3:35]}]


def test_spans_reach_a_collector(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    collector = HTTPServer(("127.0.0.1", 0), type("Here", (_Collector,), {"bodies": bodies}))
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        maker = make_spans(Tracing(endpoint=url))
        assert maker is not None
        with real(shop.app, tmp_path / "data", observer=maker) as on:
            Traced(on, InMemorySpanExporter()).call("Shop/ada/order", "3", PARENT)
        maker.close()
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    sent = b"".join(bodies)
    for each in (b"Shop/order", b"attempt 1 of Shop/order", b"run ticket", b"Stock/reserve"):
        assert each in sent
    assert bytes.fromhex(PARENT[3:35]) in sent


def test_an_endpoint_makes_spans(tmp_path: Path) -> None:
    maker = make_spans(Tracing(endpoint="http://127.0.0.1:1/v1/traces", sample_ratio=0.0))
    assert maker is not None
    new = maker.new_trace()
    assert new is not None
    assert not trace.is_sampled(new)
    maker.close()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (PARENT, PARENT),
        ("01" + PARENT[2:] + "-more", PARENT),
        (PARENT + "-more", None),
        ("ff" + PARENT[2:], None),
        (PARENT.upper(), None),
        ("00-" + "0" * 32 + PARENT[35:], None),
        (PARENT[:36] + "0" * 16 + PARENT[52:], None),
        ("", None),
        ("nonsense", None),
        (PARENT + "\n", None),
    ],
)
def test_a_traceparent_is_checked(header: str, expected: str | None) -> None:
    assert trace.parse(header) == expected
