"""The first page in one JSON: health, rates, latencies, counts, partitions, the supervision tree.

Only numbers that are at hand; what has to be counted comes from the census.
"""

import asyncio
import time
from typing import Any, Final

import msgspec

from perdure.actors.engine import Engine
from perdure.actors.tree import Tree, tree
from perdure.gateway.console.census import Census
from perdure.gateway.console.meter import Meter
from perdure.journal.errors import StoreFailed

_ACTORS: Final = 200  # shown of the tree
_FEW_ACTORS: Final = 500
_TREE_S: Final = 10.0


class Overview:
    """What one server says of itself; ``now_s`` of a monotonic clock."""

    def __init__(self, engine: Engine, census: Census, meter: Meter, version: str) -> None:
        self._engine = engine
        self._census = census
        self._meter = meter
        self._version = version
        self._began_s = time.monotonic()
        self._tree: Tree | None = None
        self._tree_at_s = 0.0

    async def look(self) -> dict[str, Any]:
        health = self._engine.health()
        shown: dict[str, Any] = {
            "version": self._version,
            "health": health,
            "uptime_s": int(time.monotonic() - self._began_s),
            "ingress": msgspec.to_builtins(self._meter.rates()),
            "partitions": [await asyncio.to_thread(self._partition, health)],
            "actors": self._actors(),
        }
        if health:
            return shown
        try:
            shown["invocations"] = await self._invocations()
        except StoreFailed as error:  # it went down while we looked
            shown["health"] = str(error)
        return shown

    async def _invocations(self) -> dict[str, Any]:
        count = await self._census.look()
        lately = self._engine.lately
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
            "completed_count": lately.completed_count,
            "failed_count": lately.failed_count,
        }

    def _partition(self, health: str) -> dict[str, Any]:
        try:
            store = self._engine.store
        except StoreFailed as error:
            return {"index": 0, "state": "down", "reason": health or str(error)}
        return {
            "index": 0,
            "state": "up",
            "epoch": store.tail.epoch,
            "position": store.tail.pos,
            "fsync_us": round(store.fsync_us),
            "size_bytes": store.approximate_bytes(),
            "has_room": store.has_room(),
            "open_attempts": self._engine.open_attempt_count,
        }

    def _actors(self) -> dict[str, Any]:
        """A look at many actors takes a few milliseconds of the loop, so it is not taken at every call."""
        now_s = time.monotonic()
        few = self._tree is None or self._tree.actor_count <= _FEW_ACTORS
        if self._tree is None or few or now_s - self._tree_at_s > _TREE_S:
            self._tree, self._tree_at_s = tree(self._engine, _ACTORS), now_s
        shown: dict[str, Any] = msgspec.to_builtins(self._tree)
        return shown | {"dead_letters": self._engine.system.dead_letter_count}
