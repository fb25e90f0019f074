"""The schedules of a running engine: requests to the machine, its answers, and the list of all.

Implements ``journal.schedules_requests.Schedules``; decides nothing. When a tick is due, the partition's
timers tell the machine; nothing of that is here.
"""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from perdure.actors.partition import Partition
from perdure.journal import ids, keys
from perdure.journal.ids import format_invocation_id
from perdure.journal.schedules_records import Schedule, Spec, decode_schedule
from perdure.journal.schedules_requests import (
    Answer,
    Ask,
    Declare,
    Delete,
    FillBack,
    Filled,
    Pause,
    Put,
    Refused,
    Resume,
    ScheduleRefused,
    Stored,
    Trigger,
    Triggered,
    check,
    check_range,
    is_name,
    no_schedule,
)

_CHUNK = 100  # rows that are read at a time


class EngineSchedules:
    """``ask`` submits to the machine and waits; ``running`` is the partition, or raises StoreFailed.

    ``declared``: what code declares; told to the machine whenever the store is opened.
    """

    def __init__(
        self,
        ask: Callable[[Ask], Awaitable[Answer]],
        running: Callable[[], Partition],
        now_ms: Callable[[], int],
    ) -> None:
        self._ask = ask
        self._running = running
        self.now_ms = now_ms
        self.declared: Declare | None = None

    async def declare(self, wanted: Declare) -> None:
        """New code declares its own, in the place of what the code before declared."""
        self.declared = wanted
        await self._tell(wanted)  # on a full disk, too: the code is in already

    async def put(self, spec: Spec, replace: bool = False) -> Stored:
        check(spec)
        answer = await self._change(Put(spec, replace))
        assert isinstance(answer, Stored)
        return answer

    async def find(self, name: str) -> Schedule | None:
        if not is_name(name):
            return None
        raw = self._running().tables.row(keys.schedule(ids.schedule_id(name)))
        return None if raw is None else decode_schedule(raw)

    async def list(self) -> list[Schedule]:
        partition = self._running()
        await partition.commits.flush()
        start, stop = keys.schedule_range()
        found: list[Schedule] = []
        while True:
            rows = await asyncio.to_thread(partition.store.scan, start, stop, _CHUNK)
            found += [_brief(decode_schedule(value)) for _, value in rows]
            if len(rows) < _CHUNK:
                return sorted(found, key=lambda each: each.spec.name)
            start = rows[-1][0] + b"\x00"

    async def pause(self, name: str, reason: str) -> Schedule:
        return await self._stored(Pause(name, reason))

    async def resume(self, name: str) -> Schedule:
        return await self._stored(Resume(name))

    async def trigger(self, name: str, asked_at_ms: int | None = None) -> str:
        now_ms = self.now_ms() if asked_at_ms is None else asked_at_ms
        answer = await self._change(Trigger(name, now_ms))
        assert isinstance(answer, Triggered)
        return format_invocation_id(answer.invocation)

    async def backfill(
        self,
        name: str,
        from_ms: int,
        until_ms: int,
        at_once: bool = False,
        asked_at_ms: int | None = None,
    ) -> int:
        now_ms = self.now_ms() if asked_at_ms is None else asked_at_ms
        check_range(from_ms, until_ms, now_ms)
        answer = await self._change(FillBack(name, from_ms, until_ms, at_once, now_ms))
        assert isinstance(answer, Filled)
        return answer.tick_count

    async def delete(self, name: str) -> None:
        await self._change(Delete(name))

    async def _stored(self, ask: Ask) -> Schedule:
        answer = await self._change(ask)
        assert isinstance(answer, Stored)
        return answer.schedule

    async def _change(self, ask: Ask) -> Answer:
        """Raises Overloaded, and what the machine refuses."""
        if isinstance(ask, Pause | Resume | Trigger | FillBack | Delete) and not is_name(ask.name):
            raise no_schedule(ask.name)
        await self._running().pressure.admit()
        return await self._tell(ask)

    async def _tell(self, ask: Ask) -> Answer:
        answer = await self._ask(ask)
        if isinstance(answer, Refused):
            raise ScheduleRefused(answer.code, answer.message)
        return answer


def _brief(schedule: Schedule) -> Schedule:
    """For a list: bodies could be many megabytes."""
    return replace(schedule, spec=replace(schedule.spec, body=b"", headers=()))
