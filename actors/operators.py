"""What is asked of a running engine about one invocation or key: signals, operations, changes of state.

Turns requests into events, and deployment choices into destinations; decides nothing. The engine's life,
calls and sends are in actors/engine.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from typing import Any

from perdure.actors.partition import Partition
from perdure.actors.registry import Registry
from perdure.actors.remote.deployments import Deployments
from perdure.journal import ids
from perdure.journal.entries import Outcome, SignalResult
from perdure.journal.errors import PerdureError
from perdure.journal.events import (
    Destination,
    Event,
    Nowhere,
    Operate,
    PatchState,
    Restart,
    SendSignalTo,
)
from perdure.journal.ids import parse_invocation_id
from perdure.journal.placement import Placement
from perdure.journal.requests import (
    DeploymentChoice,
    Edits,
    Incompatible,
    Op,
    OpResult,
    Restarted,
    Which,
)
from perdure.journal.schema import ServiceType


class Operators(ABC):
    """The part of ``Runtime`` for operators. The engine is the rest of it."""

    registry: Registry
    deployments: Deployments
    placement: Placement
    _now_ms: Callable[[], int]
    _random_bytes: Callable[[int], bytes]
    _tokens: "count[int]"

    @abstractmethod
    def _running(self) -> Partition:
        """Raises StoreFailed."""

    @abstractmethod
    async def _ask(self, event: Event, token: int, id: bytes | None = None) -> Any:
        """Submit an event and wait for its reply."""

    def _require_here(self, id: bytes, what: str) -> None:
        """Raises PerdureError where what is asked for is another partition's."""
        if (owner := self.placement.elsewhere(id)) is not None:
            raise PerdureError(f"{what} is of partition {owner}")

    async def signal(self, invocation_id: str, signal: int | str, result: SignalResult) -> None:
        await self._signal(parse_invocation_id(invocation_id), signal, result)

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        id, signal = ids.parse_awakeable_id(awakeable_id)
        await self._signal(id, signal, result)

    async def _signal(self, id: bytes, signal: int | str, result: SignalResult) -> None:
        self._require_here(id, "that invocation")
        await self._running().pressure.room()
        token = next(self._tokens)
        await self._ask(SendSignalTo(id, signal, result, token, self._now_ms()), token)

    async def operate(
        self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
    ) -> OpResult | Incompatible:
        id, token = parse_invocation_id(invocation_id), next(self._tokens)
        self._require_here(id, invocation_id)
        moves = op is Op.RESUME and deployment is not Which.KEEP
        destination = self._destination(id, deployment) if moves else None
        event = Operate(id, op, token, self._now_ms(), destination)
        result: OpResult | Incompatible = await self._ask(event, token)
        return result

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: DeploymentChoice = Which.LATEST,
        edits: Edits = (),
    ) -> Restarted | OpResult | Incompatible:
        id = parse_invocation_id(invocation_id)
        self._require_here(id, invocation_id)
        await self._running().pressure.admit()
        token, now_ms = next(self._tokens), self._now_ms()
        event = Restart(
            id,
            ids.sibling_id(id, now_ms, self._random_bytes(10)),
            from_index,
            self._destination(id, deployment),
            int.from_bytes(self._random_bytes(8), "big"),
            token,
            now_ms,
            edits,
        )
        result: Restarted | OpResult | Incompatible = await self._ask(event, token)
        return result

    def _destination(self, id: bytes, choice: DeploymentChoice) -> Destination | Nowhere:
        record = self._running().tables.invocation(id)
        return Nowhere() if record is None else self.deployments.destination(record, choice)

    async def patch_state(
        self, service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        found = self.registry.services.get(service)
        if found is None or found.type is ServiceType.SERVICE:
            raise PerdureError(f"{service} is no virtual object or workflow; it has no state")
        self._require_here(ids.key_partition(key).to_bytes(8, "big"), f"{service}/{key}")
        await self._running().pressure.admit()
        token = next(self._tokens)
        event = PatchState(service, key, new_state, version, token, self._now_ms())
        await self._ask(event, token)
