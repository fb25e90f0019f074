"""One partition from afar: what ``Runtime`` offers, for invocations that this partition owns.

Ids are drawn by who calls, so that a request that is sent again is known again. What routes is cluster.py.
"""

import os

from perdure.actors.plane.caller import Caller
from perdure.actors.plane.messages import Call, Ended, Took, Value
from perdure.actors.plane.methods import End, output_of, restarted_of
from perdure.actors.plane.options import PlaneOptions
from perdure.actors.registry import Registry
from perdure.journal import entries
from perdure.journal.entries import Entry, Outcome, SignalResult
from perdure.journal.ids import format_invocation_id
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
from perdure.journal.schedules_records import Schedule, Spec
from perdure.journal.schedules_requests import Stored


class RemotePartition(Caller):
    """``registry``: this process's own; answers carry handlers by name."""

    def __init__(self, index: int, registry: Registry, options: PlaneOptions | None = None) -> None:
        super().__init__(f"partition-{index}", options)
        self.index = index
        self._registry = registry
        self._keep_ms = int(2_000 * self.options.hold_s)  # ask again after all that holding
        self.schedules = RemoteSchedules(self)

    # ---- calls and sends

    async def call(self, id: bytes, invoke: Invoke, is_fresh: bool = False) -> Answer:
        """``is_fresh``: the id is random, so that nobody else can have sent it before."""
        message = self._call(id, invoke, is_fresh, waits=True)
        answer = await self.request(message, True, len(invoke.body), "call")
        text = format_invocation_id(id)
        if type(answer) is Value:
            return Answer(text, entries.Value(answer.content), None, invoke.handler)
        assert type(answer) is Ended
        # nobody asked for a stored result: that of a request which was sent again is still its own
        expires_at_ms = None if is_fresh else answer.expires_at_ms
        return Answer(text, answer.result, expires_at_ms, invoke.handler)

    async def send(self, id: bytes, invoke: Invoke, is_fresh: bool = False) -> Accepted:
        """``is_fresh``: as above."""
        message = self._call(id, invoke, is_fresh, waits=False)
        answer: Took = await self.request(message, True, len(invoke.body), "send")
        text = format_invocation_id(id)
        return Accepted(text, answer.is_new or is_fresh, answer.execution_time_ms)

    def _call(self, id: bytes, invoke: Invoke, is_fresh: bool, waits: bool) -> Call:
        handler = invoke.handler
        return Call(
            self.next_number(),
            waits,
            id,
            handler.service,
            handler.name,
            invoke.key,
            invoke.body,
            invoke.headers,
            invoke.idempotency_key,
            is_fresh,
            self._keep_ms,
            invoke.delay_ms,
            invoke.scope,
            invoke.limit_key,
            invoke.trace,
            None if is_fresh else int.from_bytes(os.urandom(8), "big"),
        )

    # ---- ends

    async def attach(self, invocation_id: str) -> Answer | NotFound:
        found = self._output(await self.ask("attach", invocation_id))
        assert isinstance(found, Answer | NotFound)
        return found

    async def output(self, invocation_id: str) -> Output:
        return self._output(await self.ask("output", invocation_id))

    def _output(self, end: End) -> Output:
        return output_of(end, None if end.handler is None else self._registry.handler(*end.handler))

    # ---- operations: not asked twice, except for what the partition knows again

    async def signal(self, invocation_id: str, signal: int | str, result: SignalResult) -> None:
        """Raises Indeterminate too: a second signal of one name is another one."""
        await self.ask("signal", invocation_id, signal, result)

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        await self.ask("complete_awakeable", awakeable_id, result)

    async def operate(
        self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
    ) -> OpResult | Incompatible:
        """Raises Indeterminate too."""
        found: OpResult | Incompatible = await self.ask("operate", invocation_id, op, deployment)
        return found

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: DeploymentChoice = Which.LATEST,
        edits: Edits = (),
    ) -> Restarted | OpResult | Incompatible:
        """Raises Indeterminate too."""
        return restarted_of(await self.ask("restart", invocation_id, from_index, deployment, edits))

    async def patch_state(
        self, service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        """Raises Indeterminate too."""
        await self.ask("patch_state", service, key, new_state, version)

    # ---- looking

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        found: InvocationInfo | None = await self.ask("invocation", invocation_id)
        return found

    async def invocations(self, filter: Filter) -> list[InvocationInfo]:
        found: list[InvocationInfo] = await self.ask("invocations", filter)
        return found

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        found: list[Entry] | None = await self.ask("journal", invocation_id)
        return found

    async def journaled(self, invocation_id: str) -> list[Journaled] | None:
        found: list[Journaled] | None = await self.ask("journaled", invocation_id)
        return found

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        found: dict[str, bytes] = await self.ask("state", service, key)
        return found

    async def inspect(self, request: bytes) -> bytes:
        found: bytes = await self.ask("inspect", request)
        return found


class RemoteSchedules:
    """``schedules_requests.Schedules`` of one partition."""

    def __init__(self, partition: RemotePartition) -> None:
        self._ask = partition.ask

    async def put(self, spec: Spec, replace: bool = False) -> Stored:
        found: Stored = await self._ask("schedules.put", spec, replace)
        return found

    async def find(self, name: str) -> Schedule | None:
        found: Schedule | None = await self._ask("schedules.find", name)
        return found

    async def list(self) -> list[Schedule]:
        found: list[Schedule] = await self._ask("schedules.list")
        return found

    async def pause(self, name: str, reason: str) -> Schedule:
        found: Schedule = await self._ask("schedules.pause", name, reason)
        return found

    async def resume(self, name: str) -> Schedule:
        found: Schedule = await self._ask("schedules.resume", name)
        return found

    async def trigger(self, name: str, asked_at_ms: int) -> str:
        found: str = await self._ask("schedules.trigger", name, asked_at_ms)
        return found

    async def backfill(
        self, name: str, from_ms: int, until_ms: int, at_once: bool, asked_at_ms: int
    ) -> int:
        found: int = await self._ask(
            "schedules.backfill", name, from_ms, until_ms, at_once, asked_at_ms
        )
        return found

    async def delete(self, name: str) -> None:
        await self._ask("schedules.delete", name)
