"""A small ``Runtime`` in memory: enough behaviour at the gateway's lower boundary to test the gateway.

Handlers are Python functions from ``Invoke`` to an outcome, run in a task of their own, so that a
caller that goes away leaves them alone. Nothing is durable and nothing is queued by key.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.journal import entries, ids
from perdure.journal.entries import Entry, Failure, Outcome, SignalResult, Value
from perdure.journal.errors import PerdureError
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
    NotReady,
    Op,
    OpResult,
    Output,
    Restarted,
    Which,
)
from perdure.journal.schema import (
    Handler,
    HandlerType,
    InputRule,
    OutputRule,
    Service,
    ServiceType,
)

NOW_MS = 1_800_000_000_000
EXPIRES_AT_MS = NOW_MS + 86_400_000
_JSON_INPUT = (InputRule(None), InputRule("application/json", body_required=True))

Function = Callable[[Invoke], Awaitable[Outcome]]


def handler(
    service: str,
    name: str,
    service_type: ServiceType,
    type_: HandlerType = HandlerType.EXCLUSIVE,
    rules: tuple[InputRule, ...] = _JSON_INPUT,
    output: OutputRule = OutputRule(),  # noqa: B008
    public: bool = True,
) -> Handler:
    if service_type is ServiceType.SERVICE:
        type_ = HandlerType.SERVICE
    return Handler(service, name, type_, service_type, rules, output, public)


def example_services() -> dict[str, Service]:
    """One of each kind: Greeter, Counter (object), Flow (workflow)."""
    plain, keyed, flow = ServiceType.SERVICE, ServiceType.VIRTUAL_OBJECT, ServiceType.WORKFLOW
    greeter = [
        handler("Greeter", "greet", plain),
        handler("Greeter", "headers", plain, rules=(InputRule(None), InputRule("*/*"))),
        handler("Greeter", "noInput", plain, rules=(InputRule(None),)),
        handler("Greeter", "text", plain, output=OutputRule("text/plain", set_if_empty=True)),
        handler("Greeter", "secret", plain, public=False),
    ]
    counter = [
        handler("Counter", "add", keyed),
        handler("Counter", "get", keyed, HandlerType.SHARED),
    ]
    steps = [
        handler("Flow", "run", flow, HandlerType.WORKFLOW),
        handler("Flow", "finish", flow, HandlerType.SHARED),
    ]
    made = (
        Service("Greeter", plain, {each.name: each for each in greeter}),
        Service("Counter", keyed, {each.name: each for each in counter}),
        Service("Flow", flow, {each.name: each for each in steps}),
    )
    return {each.name: each for each in made}


async def echo(invoke: Invoke) -> Outcome:
    return Value(invoke.body)


class MemoryRuntime:
    """``functions`` by ``Service/handler``; others echo their input."""

    schedules: Any = None  # their tests have a real engine

    def __init__(self) -> None:
        self.served = example_services()
        self.functions: dict[str, Function] = {}
        self.invokes: list[Invoke] = []
        self.tasks: dict[str, asyncio.Task[Outcome]] = {}
        self.execution_times_ms: dict[str, int | None] = {}
        self.awakeables: list[tuple[str, Outcome]] = []
        self.operations: list[tuple[str, Op]] = []
        self.operation_results: dict[str, OpResult | Incompatible] = {}
        self.choices: list[DeploymentChoice] = []
        self.restarts: list[tuple[str, int, DeploymentChoice, Edits]] = []
        self.restart_results: dict[str, Restarted | OpResult | Incompatible] = {}
        self.states: dict[tuple[str, str], dict[str, bytes]] = {}
        self.infos: dict[str, InvocationInfo] = {}
        self.journals: dict[str, list[Entry]] = {}
        self.failure: PerdureError | None = None  # what every method raises
        self.handlers: dict[str, Handler] = {}

    def services(self) -> dict[str, Service]:
        return self.served

    def _start(self, invoke: Invoke) -> tuple[str, bool]:
        if self.failure is not None:
            raise self.failure
        self.invokes.append(invoke)
        name = self.new_id(invoke)
        if name in self.tasks:
            return name, False
        function = self.functions.get(f"{invoke.handler.service}/{invoke.handler.name}", echo)
        self.handlers[name] = invoke.handler
        self.tasks[name] = asyncio.ensure_future(function(invoke))
        delay_ms = invoke.delay_ms
        self.execution_times_ms[name] = None if delay_ms is None else NOW_MS + delay_ms
        return name, True

    def new_id(self, invoke: Invoke) -> str:
        service, name, key = invoke.handler.service, invoke.handler.name, invoke.key
        if invoke.handler.type is HandlerType.WORKFLOW:
            return ids.format_invocation_id(ids.workflow_id(service, key or ""))
        if invoke.idempotency_key is not None:
            raw = ids.idempotent_id(service, key, name, invoke.idempotency_key)
            return ids.format_invocation_id(raw)
        raw = ids.fresh_id(service, key, NOW_MS, secrets.token_bytes(12))
        return ids.format_invocation_id(raw)

    async def call(self, invoke: Invoke) -> Answer:
        name, is_new = self._start(invoke)
        if not is_new and invoke.handler.type is HandlerType.WORKFLOW:
            return Answer(name, Failure(409, "the workflow method was already invoked"))
        stored = self.tasks[name].done()
        result = await asyncio.shield(self.tasks[name])
        return Answer(name, result, EXPIRES_AT_MS if stored else None, invoke.handler)

    async def send(self, invoke: Invoke) -> Accepted:
        name, is_new = self._start(invoke)
        return Accepted(name, is_new, self.execution_times_ms[name])

    def invocation_id(self, target: entries.AttachTarget) -> str:
        match target:
            case entries.ById():
                ids.parse_invocation_id(target.invocation_id)
                return target.invocation_id
            case entries.ByIdempotencyKey():
                raw = ids.idempotent_id(
                    target.service,
                    target.key,
                    target.handler,
                    target.idempotency_key,
                    target.scope,
                )
                return ids.format_invocation_id(raw)
            case entries.ByWorkflow():
                raw = ids.workflow_id(target.service, target.key, target.scope)
                return ids.format_invocation_id(raw)

    async def attach(self, invocation_id: str) -> Answer | NotFound:
        task = self.tasks.get(invocation_id)
        if task is None:
            return NotFound(invocation_id)
        expires_at_ms = EXPIRES_AT_MS if task.done() else None
        result = await asyncio.shield(task)
        return Answer(invocation_id, result, expires_at_ms, self._latest(invocation_id))

    async def output(self, invocation_id: str) -> Output:
        task = self.tasks.get(invocation_id)
        if task is None:
            return NotFound(invocation_id)
        if not task.done():
            return NotReady(invocation_id)
        return Answer(invocation_id, task.result(), EXPIRES_AT_MS, self._latest(invocation_id))

    def _latest(self, invocation_id: str) -> Handler | None:
        old = self.handlers[invocation_id]
        service = self.served.get(old.service)
        return service.handlers.get(old.name) if service else None

    async def signal(self, invocation_id: str, signal: int | str, result: SignalResult) -> None:
        ids.parse_invocation_id(invocation_id)

    async def complete_awakeable(self, awakeable_id: str, result: Outcome) -> None:
        ids.parse_awakeable_id(awakeable_id)
        self.awakeables.append((awakeable_id, result))

    async def operate(
        self, invocation_id: str, op: Op, deployment: DeploymentChoice = Which.KEEP
    ) -> OpResult | Incompatible:
        ids.parse_invocation_id(invocation_id)
        self.operations.append((invocation_id, op))
        self.choices.append(deployment)
        return self.operation_results.get(invocation_id, OpResult.NOT_FOUND)

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: DeploymentChoice = Which.LATEST,
        edits: Edits = (),
    ) -> Restarted | OpResult | Incompatible:
        ids.parse_invocation_id(invocation_id)
        self.restarts.append((invocation_id, from_index, deployment, edits))
        return self.restart_results.get(invocation_id, OpResult.NOT_FOUND)

    async def invocation(self, invocation_id: str) -> InvocationInfo | None:
        ids.parse_invocation_id(invocation_id)
        return self.infos.get(invocation_id)

    async def invocations(self, filter: Filter) -> list[InvocationInfo]:
        if self.failure is not None:
            raise self.failure
        found = [
            info
            for info in self.infos.values()
            if filter.service in (None, info.service)
            and filter.handler in (None, info.handler)
            and filter.key in (None, info.key)
            and filter.status in (None, info.status)
        ]
        return found[: filter.limit]

    async def journal(self, invocation_id: str) -> list[Entry] | None:
        ids.parse_invocation_id(invocation_id)
        return self.journals.get(invocation_id)

    async def journaled(self, invocation_id: str) -> list[Journaled] | None:
        """As if an older release had written all but the first entry."""
        entries = await self.journal(invocation_id)
        if entries is None:
            return None
        return [Journaled(each, None if index else NOW_MS) for index, each in enumerate(entries)]

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        return self.states.get((service, key), {})

    async def patch_state(
        self, service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        self.states[service, key] = new_state
