"""All partitions as one ``Runtime``: every request to the partition that owns its id, lists merged.

It draws the ids of invocations itself; it keeps nothing. One partition's absence is felt by its keys and
by the lists alone.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.actors.inspectors import Inspectors
from perdure.actors.plane.cluster_schedules import ClusterSchedules
from perdure.actors.plane.remote import RemotePartition
from perdure.actors.registry import Registry
from perdure.journal import ids
from perdure.journal.drawing import draw_id
from perdure.journal.effects import attach_id
from perdure.journal.entries import AttachTarget, Entry, Outcome, SignalResult
from perdure.journal.ids import format_invocation_id, parse_invocation_id
from perdure.journal.inspecting import CountPinned, Far, Inspection
from perdure.journal.placement import owner_of, owner_of_key
from perdure.journal.requests import (
    Accepted,
    Answer,
    DeploymentChoice,
    Edits,
    Filter,
    Incompatible,
    InvocationInfo,
    Invoke,
    Journaled,
    NotFound,
    Op,
    OpResult,
    Output,
    Restarted,
    Which,
)
from perdure.journal.schedules_requests import Schedules
from perdure.journal.schema import Service


class Cluster:
    """``Runtime`` over ``partitions``, which stand in the order of their index, all of them."""

    def __init__(
        self,
        partitions: Sequence[RemotePartition],
        registry: Registry,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.partitions = tuple(partitions)
        self.registry = registry
        self._count = len(self.partitions)
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._schedules = ClusterSchedules(self.partitions, now_ms)
        self.inspection: Inspection = Inspectors([Far(each.inspect) for each in self.partitions])

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self.partitions))

    def health(self) -> str:
        """Empty while every partition can be reached; else why one can't."""
        return next((h for each in self.partitions if (h := each.health())), "")

    def _owner(self, id: bytes) -> RemotePartition:
        return self.partitions[owner_of(id, self._count)]

    def _owner_of(self, invocation_id: str) -> RemotePartition:
        """Raises BadId."""
        return self._owner(parse_invocation_id(invocation_id))

    @property
    def schedules(self) -> Schedules:
        return self._schedules

    def services(self) -> dict[str, Service]:
        return self.registry.services

    async def pinned_counts(self) -> dict[str, int]:
        """How many unfinished invocations each deployment has to finish, in all partitions."""
        return (await self.inspection.inspect(CountPinned())).counts

    # ---- calls and sends

    def call(self, invoke: Invoke) -> Coroutine[Any, Any, Answer]:
        id, is_fresh = self._draw(invoke)
        return self._owner(id).call(id, invoke, is_fresh)

    def send(self, invoke: Invoke) -> Coroutine[Any, Any, Accepted]:
        id, is_fresh = self._draw(invoke)
        return self._owner(id).send(id, invoke, is_fresh)

    def new_id(self, invoke: Invoke) -> str:
        return format_invocation_id(self._draw(invoke)[0])

    def _draw(self, invoke: Invoke) -> tuple[bytes, bool]:
        return draw_id(invoke, self._now_ms(), self._random_bytes)

    # ---- one invocation

    def invocation_id(self, target: AttachTarget) -> str:
        return format_invocation_id(attach_id(target))

    async def attach(self, invocation_id: str) -> Answer | NotFound:
        return await self._owner_of(invocation_id).attach(invocation_id)

    async def output(self, invocation_id: str) -> Output:
        return await self._owner_of(invocation_id).output(invocation_id)

    async def signal(self, invocation_id: str, signal: int | str, result: SignalResult) -> None:
        await self._owner_of(invocation_id).signal(invocation_id, signal, result)

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        id, _ = ids.parse_awakeable_id(awakeable_id)
        await self._owner(id).complete_awakeable(awakeable_id, result)

    async def operate(
        self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
    ) -> OpResult | Incompatible:
        return await self._owner_of(invocation_id).operate(invocation_id, op, deployment)

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: DeploymentChoice = Which.LATEST,
        edits: Edits = (),
    ) -> Restarted | OpResult | Incompatible:
        owner = self._owner_of(invocation_id)
        return await owner.restart(invocation_id, from_index, deployment, edits)

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        return await self._owner_of(invocation_id).invocation(invocation_id)

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        return await self._owner_of(invocation_id).journal(invocation_id)

    async def journaled(self, invocation_id: str) -> list[Journaled] | None:
        return await self._owner_of(invocation_id).journaled(invocation_id)

    # ---- keys, lists

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        return await self.partitions[owner_of_key(key, self._count)].state(service, key)

    async def patch_state(
        self, service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        owner = self.partitions[owner_of_key(key, self._count)]
        await owner.patch_state(service, key, new_state, version)

    async def invocations(self, filter: Filter) -> list[InvocationInfo]:
        parts = await asyncio.gather(*(each.invocations(filter) for each in self.partitions))
        found = [info for part in parts for info in part]
        found.sort(key=lambda each: (each.status == "completed", -each.created_at_ms))
        return found[: filter.limit]
