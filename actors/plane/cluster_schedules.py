"""Schedules of all partitions as one: each lives where the slot of its id is."""

import asyncio
from collections.abc import Callable, Sequence

from perdure.actors.plane.remote import RemotePartition, RemoteSchedules
from perdure.journal import ids
from perdure.journal.placement import owner_of
from perdure.journal.schedules_records import Schedule, Spec
from perdure.journal.schedules_requests import Stored, check, check_range, is_name, no_schedule


class ClusterSchedules:
    """``schedules_requests.Schedules``. A trigger that is sent again keeps the moment it was asked at."""

    def __init__(self, partitions: Sequence[RemotePartition], now_ms: Callable[[], int]) -> None:
        self._partitions = partitions
        self._now_ms = now_ms

    def _owner(self, name: str) -> RemoteSchedules:
        """Raises ScheduleRefused for what is no name."""
        if not is_name(name):
            raise no_schedule(name)
        return self._partitions[owner_of(ids.schedule_id(name), len(self._partitions))].schedules

    async def put(self, spec: Spec, replace: bool = False) -> Stored:
        check(spec)
        return await self._owner(spec.name).put(spec, replace)

    async def find(self, name: str) -> Schedule | None:
        return await self._owner(name).find(name) if is_name(name) else None

    async def pause(self, name: str, reason: str) -> Schedule:
        return await self._owner(name).pause(name, reason)

    async def resume(self, name: str) -> Schedule:
        return await self._owner(name).resume(name)

    async def trigger(self, name: str, asked_at_ms: int | None = None) -> str:
        now_ms = self._now_ms() if asked_at_ms is None else asked_at_ms
        return await self._owner(name).trigger(name, now_ms)

    async def backfill(
        self,
        name: str,
        from_ms: int,
        until_ms: int,
        at_once: bool = False,
        asked_at_ms: int | None = None,
    ) -> int:
        now_ms = self._now_ms() if asked_at_ms is None else asked_at_ms
        check_range(from_ms, until_ms, now_ms)
        return await self._owner(name).backfill(name, from_ms, until_ms, at_once, now_ms)

    async def delete(self, name: str) -> None:
        await self._owner(name).delete(name)

    async def list(self) -> list[Schedule]:
        parts = await asyncio.gather(*(each.schedules.list() for each in self._partitions))
        return sorted((each for part in parts for each in part), key=lambda each: each.spec.name)
