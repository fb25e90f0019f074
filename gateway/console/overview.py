"""The first page in one JSON: health, rates, latencies, counts, partitions, the supervision tree.

Only numbers that are at hand; what has to be counted comes from the census.
"""

import time
from typing import Any, Final

import msgspec

from perdure.gateway.console.census import Census
from perdure.gateway.console.meter import Meter
from perdure.journal.errors import StoreError
from perdure.journal.inspecting import (
    Inspection,
    ListActors,
    Look,
    Newest,
    PartitionLook,
    Tree,
)

_ACTORS: Final = 200  # shown of the tree
_FEW_ACTORS: Final = 500
_TREE_S: Final = 10.0


class Overview:
    """What one server says of itself; ``now_s`` of a monotonic clock."""

    def __init__(self, inspection: Inspection, census: Census, meter: Meter, version: str) -> None:
        self._inspection = inspection
        self._census = census
        self._meter = meter
        self._version = version
        self._began_s = time.monotonic()
        self._tree: Tree | None = None
        self._tree_at_s = 0.0

    async def look(self) -> dict[str, Any]:
        looks = (await self._inspection.inspect(Look())).partitions
        shown: dict[str, Any] = {
            "version": self._version,
            "health": _health(looks),
            "uptime_s": int(time.monotonic() - self._began_s),
            "ingress": msgspec.to_builtins(self._meter.rates()),
            "partitions": [_partition(each) for each in looks],
        }
        try:
            shown["actors"] = await self._actors()
            shown["actors"]["dead_letters"] = sum(each.dead_letters for each in looks)
            if not all(each.reason for each in looks):
                shown["invocations"] = await self._invocations()
        except StoreError as error:  # it went down while we looked
            shown["health"] = str(error)
        return shown

    async def _invocations(self) -> dict[str, Any]:
        count = await self._census.look()
        news = await self._inspection.inspect(Newest())
        by_status: dict[str, int] = {}
        by_service: dict[str, dict[str, int]] = {}
        for (service, status), number in list(count.counts.items()):
            by_status[status] = by_status.get(status, 0) + number
            by_service.setdefault(service, {})[status] = number
        age_s = time.monotonic() - count.ended_at_s if count.is_whole else 0.0
        return {
            "by_status": by_status,
            "by_service": by_service,
            "is_whole": count.is_whole,
            "age_s": round(age_s, 1),
            "progress": self._census.progress,
            "completed_count": news.completed_count,
            "failed_count": news.failed_count,
        }

    async def _actors(self) -> dict[str, Any]:
        """A look at many actors takes a few milliseconds of a loop, so it is not taken at every call."""
        now_s = time.monotonic()
        few = self._tree is None or self._tree.actor_count <= _FEW_ACTORS
        if self._tree is None or few or now_s - self._tree_at_s > _TREE_S:
            answer = await self._inspection.inspect(ListActors(_ACTORS))
            self._tree, self._tree_at_s = answer.tree, now_s
        shown: dict[str, Any] = msgspec.to_builtins(self._tree)
        return shown


def _health(looks: list[PartitionLook]) -> str:
    """Empty while all is well, else why it is not."""
    down = [each for each in looks if each.reason]
    if len(looks) == 1:
        return looks[0].reason
    return "; ".join(f"partition {each.placement.index} is down: {each.reason}" for each in down)


def _partition(look: PartitionLook) -> dict[str, Any]:
    if look.reason:
        return {"index": look.placement.index, "state": "down", "reason": look.reason}
    return {
        "index": look.placement.index,
        "state": "up",
        "epoch": look.epoch,
        "position": look.position,
        "fsync_us": round(look.fsync_us),
        "size_bytes": look.size_bytes,
        "has_room": look.has_room,
        "open_attempts": look.open_attempts,
    }
