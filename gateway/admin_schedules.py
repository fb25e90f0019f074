"""Schedules in the admin API: JSON to specs and back. Decides nothing about a tick.

Moments are RFC 3339 texts, durations those of `durations`. What each field means: docs/schedules.md.
"""

import base64
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web
from msgspec import UnsetType

from perdure.gateway.admin_answers import error, json_answer, json_of
from perdure.gateway.admin_schedule_shapes import BackfillBody, ScheduleBody
from perdure.gateway.durations import format_duration, parse_duration_ms
from perdure.journal.errors import Overloaded
from perdure.journal.ids import format_invocation_id, schedule_id
from perdure.journal.requests import Runtime
from perdure.journal.schedules_records import Cron, Interval, Once, Schedule, Spec, Timing
from perdure.journal.schedules_requests import (
    ScheduleRefused,
    Stored,
    no_schedule,
    policy_of,
)
from perdure.journal.schedules_times import BadTiming, moment, ms_of, start_ms, ticks

_UPCOMING_COUNT: Final = 5
_LONGEST_REASON: Final = 1_000
_NEVER_MS: Final = 1 << 48
_BAD_REQUEST, _TOO_MANY = 400, 429


class ScheduleOperations:
    """The operations under `/schedules`."""

    def __init__(self, runtime: Runtime, size_limit_bytes: int) -> None:
        self._runtime = runtime
        self._size_limit_bytes = size_limit_bytes
        self.operations: dict[str, Callable[..., Awaitable[web.Response]]] = {
            "schedules": self._list,
            "create_schedule": self._create,
            "schedule": self._show,
            "put_schedule": self._put,
            "delete_schedule": _refusing(self._delete),
            "pause_schedule": _refusing(self._pause),
            "resume_schedule": _refusing(self._resume),
            "trigger_schedule": _refusing(self._trigger),
            "backfill_schedule": self._backfill,
        }

    async def _list(self, request: web.BaseRequest) -> web.Response:
        found = await self._runtime.schedules.list()
        return json_answer({"schedules": [schedule_json(each) for each in found]})

    async def _show(self, request: web.BaseRequest, name: str) -> web.Response:
        found = await self._runtime.schedules.find(name)
        if found is None:
            return _refusal(no_schedule(name))
        return json_answer(schedule_json(found, whole=True))

    async def _create(self, request: web.BaseRequest) -> web.Response:
        return await self._store(request, None)

    async def _put(self, request: web.BaseRequest, name: str) -> web.Response:
        return await self._store(request, name)

    async def _store(self, request: web.BaseRequest, name: str | None) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, ScheduleBody)
        if isinstance(body, web.Response):
            return body
        try:
            stored = await self._runtime.schedules.put(spec_of(body, name), name is not None)
        except ScheduleRefused as refused:
            return _refusal(refused)
        return json_answer(schedule_json(stored.schedule, whole=True), _status(stored))

    async def _delete(self, request: web.BaseRequest, name: str) -> web.Response:
        await self._runtime.schedules.delete(name)
        return web.Response(status=200)

    async def _pause(self, request: web.BaseRequest, name: str) -> web.Response:
        reason = request.rel_url.query.get("reason", "by an operator")[:_LONGEST_REASON]
        paused = await self._runtime.schedules.pause(name, reason)
        return json_answer(schedule_json(paused, whole=True))

    async def _resume(self, request: web.BaseRequest, name: str) -> web.Response:
        resumed = await self._runtime.schedules.resume(name)
        return json_answer(schedule_json(resumed, whole=True))

    async def _trigger(self, request: web.BaseRequest, name: str) -> web.Response:
        id = await self._runtime.schedules.trigger(name)
        return json_answer({"invocation_id": id}, 202)

    async def _backfill(self, request: web.BaseRequest, name: str) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, BackfillBody)
        if isinstance(body, web.Response):
            return body
        try:
            from_ms, until_ms = moment_ms(body.from_, "UTC"), moment_ms(body.until, "UTC")
            count = await self._runtime.schedules.backfill(name, from_ms, until_ms, body.at_once)
        except ScheduleRefused as refused:
            return _refusal(refused)
        return json_answer({"tick_count": count}, 202)


def _refusing(
    operation: Callable[[web.BaseRequest, str], Awaitable[web.Response]],
) -> Callable[[web.BaseRequest, str], Awaitable[web.Response]]:
    async def perform(request: web.BaseRequest, name: str) -> web.Response:
        try:
            return await operation(request, name)
        except ScheduleRefused as refused:
            return _refusal(refused)

    return perform


def _refusal(refused: ScheduleRefused) -> web.Response:
    if refused.code == _TOO_MANY:
        raise Overloaded(refused.message)
    return error(refused.code, refused.message)


def _status(stored: Stored) -> int:
    return 201 if stored.is_new else 200


# ---- in ------------------------------------------------------------------------------------------


def spec_of(body: ScheduleBody, name: str | None) -> Spec:
    """Raises ScheduleRefused (400)."""
    if name is not None and body.name not in (None, name):
        raise ScheduleRefused(_BAD_REQUEST, f"the path names '{name}', the body '{body.name}'")
    name = body.name if name is None else name
    if name is None:
        raise ScheduleRefused(_BAD_REQUEST, "a schedule needs a 'name'")
    raw = b"" if isinstance(body.body, UnsetType) else bytes(body.body)
    given = {} if isinstance(body.headers, UnsetType) else body.headers
    headers = {each.lower(): value for each, value in given.items()}
    if raw:
        headers.setdefault("content-type", "application/json")
    return Spec(
        name,
        _timing(body),
        body.service,
        body.handler,
        body.key,
        raw,
        tuple(headers.items()),
        policy_of(body.overlap),
        _span_ms("jitter", body.jitter),
        _span_ms("catch_up", body.catch_up),
    )


def _timing(body: ScheduleBody) -> Timing:
    given = [each for each in (body.cron, body.every, body.at) if each is not None]
    if len(given) != 1:
        raise ScheduleRefused(_BAD_REQUEST, "one of 'cron', 'every' and 'at' says when it runs")
    if body.every is None and _span_ms("offset", body.offset):
        raise ScheduleRefused(_BAD_REQUEST, "'offset' is for 'every'")
    if body.cron is not None:
        return Cron(body.cron, body.time_zone)
    if body.every is not None:
        return Interval(_span_ms("every", body.every), _span_ms("offset", body.offset))
    assert body.at is not None
    return Once(moment_ms(body.at, body.time_zone))


def _span_ms(field: str, text: str) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as reason:
        raise ScheduleRefused(_BAD_REQUEST, f"'{field}': {reason}") from None


def moment_ms(text: str, time_zone: str) -> int:
    """An RFC 3339 moment; without an offset it is in ``time_zone``. Raises ScheduleRefused (400)."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=_zone(time_zone))
        return ms_of(at)
    except (ValueError, OSError, KeyError, OverflowError):
        raise ScheduleRefused(
            _BAD_REQUEST,
            f"'{text}' in '{time_zone}' is not a moment such as 2026-11-22T03:00:00Z or "
            "2026-11-22T03:00 with a time zone such as Europe/Berlin",
        ) from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        message = f"'{name}' is not a time zone such as Europe/Berlin or UTC"
        raise ScheduleRefused(_BAD_REQUEST, message) from None


# ---- out -----------------------------------------------------------------------------------------


def schedule_json(schedule: Schedule, whole: bool = False) -> dict[str, object]:
    """As operators read it. ``whole``: with body, headers and the next ticks. Absent is not there."""
    spec = schedule.spec
    key = "" if spec.key is None else f"{spec.key}/"
    shown: dict[str, object | None] = {
        "name": spec.name,
        "status": status_of(schedule),
        "target": f"{spec.service}/{key}{spec.handler}",
        "service": spec.service,
        "handler": spec.handler,
        "key": spec.key,
        **_timing_json(spec.timing),
        "overlap": spec.overlap.value,
        "jitter": format_duration(spec.jitter_ms),
        "catch_up": format_duration(spec.catch_up_ms),
        "declared_by": spec.owner or None,
        "created_at": moment(schedule.created_at_ms),
        "modified_at": moment(schedule.modified_at_ms),
        "next_tick": _moment(schedule.next_tick_ms),
        "last_tick": _moment(schedule.last_tick_ms),
        "last_invocation_id": _id(schedule.last_invocation),
        "paused_reason": schedule.paused,
        "problem": schedule.problem or None,
        "waiting_tick": _moment(schedule.waiting_tick_ms),
        "running": [format_invocation_id(each) for each in schedule.running],
        "counts": {
            "started": schedule.started_count,
            "succeeded": schedule.succeeded_count,
            "failed": schedule.failed_count,
            "skipped": schedule.skipped_count,
            "missed": schedule.missed_count,
        },
        "backfills": [
            {
                "asked_at": moment(each.asked_at_ms),
                "next_tick": moment(each.next_tick_ms),
                "until": moment(each.until_ms),
                "at_once": each.at_once,
            }
            for each in schedule.backfills
        ],
    }
    if whole:
        shown["upcoming"] = _upcoming(schedule)
        shown["body"] = _body_json(spec.body) if spec.body else None
        shown["headers"] = dict(spec.headers)
    return {name: value for name, value in shown.items() if value is not None}


def status_of(schedule: Schedule) -> str:
    """`active`, `paused`, or `finished`: there will be no other tick."""
    if schedule.paused is not None:
        return "paused"
    return "active" if schedule.next_tick_ms is not None else "finished"


def _timing_json(timing: Timing) -> dict[str, object]:
    match timing:
        case Cron():
            return {"cron": timing.expression, "time_zone": timing.timezone}
        case Interval():
            offset = {"offset": format_duration(timing.offset_ms)} if timing.offset_ms else {}
            return {"every": format_duration(timing.every_ms), **offset}
        case Once():
            return {"at": moment(timing.at_ms)}


def _upcoming(schedule: Schedule) -> list[str]:
    """When the next ticks begin, jitter included."""
    if schedule.next_tick_ms is None:
        return []
    spec, id = schedule.spec, schedule_id(schedule.spec.name)
    try:
        found = islice(ticks(spec.timing, schedule.next_tick_ms - 1, _NEVER_MS), _UPCOMING_COUNT)
        return [moment(start_ms(spec, id, each)) for each in found]
    except BadTiming:
        return []


def _body_json(body: bytes) -> dict[str, Any]:
    """Its base64 and, where it is JSON, its JSON."""
    shown: dict[str, Any] = {"base64": base64.b64encode(body).decode()}
    try:
        shown["json"] = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return shown
    return shown


def _moment(ms: int | None) -> str | None:
    return None if ms is None else moment(ms)


def _id(raw: bytes | None) -> str | None:
    return None if raw is None else format_invocation_id(raw)
