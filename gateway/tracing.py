"""OpenTelemetry spans of invocations, attempts and run closures. Loads opentelemetry; needs `perdure[otel]`.

An invocation is one span, made when it ends, with the ids that journal/trace.py derives, so that a crash
in between loses none. An attempt is a child of it, with its commands as events; a closure is a child of
the attempt that ran it. What a replay repeats is not told here, so it is not traced twice.
"""

import random
import time
from collections import OrderedDict
from typing import Any, Final

import msgspec
from opentelemetry import context as contexts
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from perdure.actors.attempts import OpenAttempt
from perdure.journal import trace
from perdure.journal.attempt import Barrier, Ended, Failed, Frame, ProposeRun, Suspended
from perdure.journal.entries import Failure, Outcome, Run, Verbatim, type_name
from perdure.journal.ids import format_invocation_id
from perdure.journal.mismatch import label
from perdure.journal.records import Invocation

_SCOPE: Final = InstrumentationScope("perdure")
_OK: Final = Status(StatusCode.OK)
_MOST_EVENTS: Final = 128  # of one attempt; the rest is counted
_MOST_REMEMBERED: Final = 10_000  # invocations whose runs keep their names until the next attempt
_NS: Final = 1_000_000  # a millisecond
_INGRESS: Final = "ingress"


class _OpenSpan(msgspec.Struct):
    """An attempt that goes on. Times in nanoseconds since the epoch; runs by completion id."""

    record: Invocation
    attempt: int
    deployment_id: str
    began_ns: int
    events: list[Event]
    run_names: dict[int, str]
    run_starts_ns: dict[int, int]
    dropped_count: int = 0


class SpanMaker:
    """Implements ``actors.counts.Observer``. ``processor`` gets the finished spans, on the loop."""

    def __init__(
        self, processor: SpanProcessor, *, service_name: str, sample_ratio: float = 1.0
    ) -> None:
        self._processor = processor
        self._resource = Resource.create({"service.name": service_name})
        self._sample_ratio = sample_ratio
        self._open: dict[bytes, _OpenSpan] = {}
        self._run_names: OrderedDict[bytes, dict[int, str]] = OrderedDict()  # between attempts
        self._chance = random.SystemRandom()

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()

    # ---- the observer ---------------------------------------------------------------------------

    def new_trace(self) -> str | None:
        id = self._chance.randbytes(16)
        return trace.begin(id, self._chance.random() < self._sample_ratio)

    def began(self, opened: OpenAttempt, record: Invocation) -> None:
        self._end_attempt(opened.id, "superseded", None)
        if record.trace is not None and trace.is_sampled(record.trace):
            place = opened.place.deployment_id
            names = self._run_names.pop(opened.id, {})
            self._open[opened.id] = _OpenSpan(
                record, opened.attempt, place, time.time_ns(), [], names, {}
            )

    def heard(self, opened: OpenAttempt, frames: tuple[Frame, ...]) -> None:
        span = self._open.get(opened.id)
        if span is None or span.attempt != opened.attempt:
            return
        for frame in frames:
            match frame:
                case ProposeRun():
                    self._end_run(opened.id, span, frame)
                case Run():
                    span.run_names[frame.completion_id] = frame.name
                    span.run_starts_ns.setdefault(frame.completion_id, time.time_ns())
                case Failed():
                    self._end_attempt(opened.id, "failed", frame.message)
                case Suspended():
                    self._end_attempt(opened.id, "suspended", None)
                case Ended():
                    self._end_attempt(opened.id, "ended", None)
                case Barrier():
                    pass
                case _:
                    _note(span, frame)

    def ran(self, id: bytes, completion_id: int) -> None:
        span = self._open.get(id)
        if span is not None:
            span.run_starts_ns[completion_id] = time.time_ns()

    def ended(self, id: bytes, record: Invocation, result: Outcome) -> None:
        self._end_attempt(id, "ended", None)
        self._run_names.pop(id, None)
        assert record.trace is not None, "only invocations with a trace are told of"
        if not trace.is_sampled(record.trace):
            return
        attributes: dict[str, Any] = {
            "perdure.invocation.id": format_invocation_id(id),
            "perdure.service": record.service,
            "perdure.handler": record.handler,
            "perdure.invoked_by": record.invoked_by,
            "perdure.attempts": record.attempt,
        }
        if record.key is not None:
            attributes["perdure.key"] = record.key
        parent = trace.parent_id(record.trace)
        self._send(
            f"{record.service}/{record.handler}",
            _context(record.trace, trace.span_id(id)),
            None if parent == trace.NO_SPAN else _context(record.trace, parent, remote=True),
            record.created_at_ms * _NS,
            kind=SpanKind.SERVER if record.invoked_by == _INGRESS else SpanKind.INTERNAL,
            status=_status(result),
            attributes=attributes,
        )

    # ---- spans ----------------------------------------------------------------------------------

    def _end_attempt(self, id: bytes, outcome: str, error: str | None) -> None:
        span = self._open.pop(id, None)
        if span is None:
            return
        if span.run_names and outcome != "ended":
            self._run_names[id] = span.run_names
            if len(self._run_names) > _MOST_REMEMBERED:
                self._run_names.popitem(last=False)
        within = span.record.trace
        assert within is not None, "only attempts of traced invocations are open"
        attributes: dict[str, Any] = {
            "perdure.invocation.id": format_invocation_id(id),
            "perdure.attempt": span.attempt,
            "perdure.outcome": outcome,
        }
        if span.deployment_id:
            attributes["perdure.deployment.id"] = span.deployment_id
        if span.dropped_count:
            attributes["perdure.events_left_out"] = span.dropped_count
        self._send(
            f"attempt {span.attempt} of {span.record.service}/{span.record.handler}",
            _context(within, trace.span_id(id, span.attempt)),
            _context(within, trace.span_id(id)),
            span.began_ns,
            status=_OK if error is None else Status(StatusCode.ERROR, error),
            attributes=attributes,
            events=span.events,
        )

    def _end_run(self, id: bytes, span: _OpenSpan, proposal: ProposeRun) -> None:
        number = proposal.completion_id
        name = span.run_names.pop(number, "")
        began_ns = span.run_starts_ns.pop(number, span.began_ns)
        within = span.record.trace
        assert within is not None, "only attempts of traced invocations are open"
        own = trace.span_id(b"%b/run/%d" % (id, number), span.attempt)
        self._send(
            f"run {name}".rstrip(),
            _context(within, own),
            _context(within, trace.span_id(id, span.attempt)),
            began_ns,
            status=_status(proposal.result),
            attributes={"perdure.run": name},
        )

    def _send(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        began_ns: int,
        *,
        status: Status,
        attributes: dict[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
        events: list[Event] | None = None,
    ) -> None:
        span = ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=events or (),
            kind=kind,
            status=status,
            start_time=began_ns,
            end_time=max(time.time_ns(), began_ns),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


def enter(traceparent: str) -> None:
    """Make the attempt's span the current one, for spans of the handler's own code."""
    span = NonRecordingSpan(_context(traceparent, trace.parent_id(traceparent)))
    contexts.attach(otel.set_span_in_context(span))


def _note(span: _OpenSpan, frame: Frame) -> None:
    """A command, as an event of the attempt."""
    if len(span.events) >= _MOST_EVENTS:
        span.dropped_count += 1
        return
    command = frame.command if isinstance(frame, Verbatim) else frame
    if command.__struct_config__.tag is None:
        return  # what an attempt waits for
    name = f"{type_name(command)} {label(command)}".rstrip()  # type: ignore[arg-type]
    span.events.append(Event(name, timestamp=time.time_ns()))


def _context(traceparent: str, span: str, remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.is_sampled(traceparent) else TraceFlags.DEFAULT)
    return SpanContext(int(trace.trace_id(traceparent), 16), int(span, 16), remote, flags)


def _status(result: Outcome) -> Status:
    return Status(StatusCode.ERROR, result.message) if isinstance(result, Failure) else _OK
