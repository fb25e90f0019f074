"""What each command of a handler does besides being journaled (service protocol 5.5).

One function a command. Each checks first, then appends the command, then takes effect; its
immediate completions follow in the same turn. A broken precondition ends the attempt with nothing
of the command stored.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import msgspec

from perdure.journal import ids, invocation, keys, reach
from perdure.journal.attempt import Failed
from perdure.journal.entries import (
    AttachInvocation,
    AttachTarget,
    ById,
    ByIdempotencyKey,
    Call,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    InvocationId,
    OneWayCall,
    Output,
    PeekPromise,
    Result,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.errors import BadId, PerdureError
from perdure.journal.events import Entropy, SetTimer
from perdure.journal.keys import MAX_TEXT_BYTES
from perdure.journal.records import Address, Promise, Waiter
from perdure.journal.schema import Handler, HandlerType, ServiceType
from perdure.journal.trace import of_callee
from perdure.journal.turn import Turn

PROMISE_COMPLETED = Failure(409, "promise was already completed")


class Precondition(PerdureError):
    """The command may not be issued here (an attempt error of the protocol)."""

    def __init__(self, code: str, message: str, status: int = 500) -> None:
        super().__init__(code, message, status)
        self.failure = Failed(status, f"[{code}] {message}")


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who issues the commands of one burst."""

    id: bytes
    attempt: int
    created_at_ms: int
    handler: Handler
    address: Address
    entropy: Entropy
    in_process: bool = True
    trace: str | None = None

    def waiter(self, completion_id: int) -> Waiter:
        return Waiter(self.id, completion_id, self.created_at_ms)


Effect = Callable[[Turn, Caller, Any], None]

# ---- only stored --------------------------------------------------------------------------------


def store(turn: Turn, caller: Caller, command: Any) -> None:
    turn.append(caller.id, command)


def _complete(turn: Turn, caller: Caller, completion_id: int, result: Result) -> None:
    turn.deliver(caller.id, caller.attempt, Completion(completion_id, result))


# ---- state --------------------------------------------------------------------------------------


def _require_keyed(caller: Caller, command: Any) -> None:
    if not caller.handler.keyed:
        what = type(command).__name__
        raise Precondition("RT0017", f"{what} needs a keyed target; this is a plain service")


def store_read(turn: Turn, caller: Caller, command: Any) -> None:
    """A read that was answered on the handler's side."""
    _require_keyed(caller, command)
    turn.append(caller.id, command)


def _require_writer(caller: Caller, command: Any) -> None:
    if not caller.handler.may_write_state:
        where = f"{caller.handler.service}/{caller.handler.name}"
        raise Precondition(
            "RT0017",
            f"{type(command).__name__} in {where}: only exclusive object handlers and workflow runs "
            "may write state; remove kind='shared' or move the write",
        )


def get_lazy_state(turn: Turn, caller: Caller, command: GetLazyState) -> None:
    _require_keyed(caller, command)
    turn.append(caller.id, command)
    value = turn.state(caller.address).get(command.key)
    _complete(turn, caller, command.completion_id, Void() if value is None else Value(value))


def get_lazy_state_keys(turn: Turn, caller: Caller, command: GetLazyStateKeys) -> None:
    _require_keyed(caller, command)
    turn.append(caller.id, command)
    names = tuple(sorted(turn.state(caller.address)))
    _complete(turn, caller, command.completion_id, StateKeys(names))


def set_state(turn: Turn, caller: Caller, command: SetState) -> None:
    _require_writer(caller, command)
    turn.append(caller.id, command)
    turn.set_state(caller.address, command.key, command.value)


def clear_state(turn: Turn, caller: Caller, command: ClearState) -> None:
    _require_writer(caller, command)
    turn.append(caller.id, command)
    turn.set_state(caller.address, command.key, None)


def clear_all_state(turn: Turn, caller: Caller, command: ClearAllState) -> None:
    _require_writer(caller, command)
    turn.append(caller.id, command)
    for name in turn.state(caller.address):
        turn.set_state(caller.address, name, None)


# ---- promises -----------------------------------------------------------------------------------


def _require_workflow(caller: Caller, command: Any) -> None:
    if caller.handler.service_type is not ServiceType.WORKFLOW:
        raise Precondition("RT0017", f"{type(command).__name__} needs a workflow")


def get_promise(turn: Turn, caller: Caller, command: GetPromise) -> None:
    _require_workflow(caller, command)
    turn.append(caller.id, command)
    promise = turn.promise(caller.address, command.key) or Promise()
    if promise.result is not None:
        return _complete(turn, caller, command.completion_id, promise.result)
    waiters = (*promise.waiters, caller.waiter(command.completion_id))
    turn.promises[(caller.address, command.key)] = Promise(None, waiters)


def peek_promise(turn: Turn, caller: Caller, command: PeekPromise) -> None:
    _require_workflow(caller, command)
    turn.append(caller.id, command)
    promise = turn.promise(caller.address, command.key)
    result = promise.result if promise is not None else None
    _complete(turn, caller, command.completion_id, Void() if result is None else result)


def complete_promise(turn: Turn, caller: Caller, command: CompletePromise) -> None:
    _require_workflow(caller, command)
    turn.append(caller.id, command)
    promise = turn.promise(caller.address, command.key) or Promise()
    if promise.result is not None:
        return _complete(turn, caller, command.completion_id, PROMISE_COMPLETED)
    turn.promises[(caller.address, command.key)] = Promise(command.result)
    _complete(turn, caller, command.completion_id, Void())
    for waiter in promise.waiters:
        invocation.answer(turn, waiter, command.result, caller.id)


# ---- time ---------------------------------------------------------------------------------------


def sleep(turn: Turn, caller: Caller, command: Sleep) -> None:
    turn.append(caller.id, command)
    if command.wake_up_at_ms <= turn.now_ms:
        return _complete(turn, caller, command.completion_id, Void())
    me = turn.invocation(caller.id)
    assert me is not None
    due_ms, number = command.wake_up_at_ms, command.completion_id
    turn.set_timer(due_ms, keys.TimerKind.SLEEP, caller.id, me, number)
    key = keys.timer(due_ms, keys.TimerKind.SLEEP, caller.id, number)
    turn.acts.append(SetTimer(due_ms, key, keys.pack_number(me.created_at_ms)))


# ---- other invocations --------------------------------------------------------------------------


def resolve_callee(turn: Turn, command: Call | OneWayCall) -> Handler | Failure:
    """The handler that is called, or why it can't be."""
    where = f"{command.service}/{command.handler}"
    handler = turn.view.handler(command.service, command.handler)
    if handler is None:
        known = turn.view.handler_names()
        near = get_close_matches(where, known, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return Failure(404, f"[RT0018] there is no handler {where} to call.{hint}")
    if not handler.keyed and command.key:
        return Failure(400, f"[RT0017] {where} is a plain service and takes no key")
    if len(command.key) > MAX_TEXT_BYTES // 4 and len(command.key.encode()) > MAX_TEXT_BYTES:
        return Failure(400, f"[RT0017] the call to {where} has a key over {MAX_TEXT_BYTES} bytes")
    if command.idempotency_key == "":
        return Failure(400, f"[RT0017] the call to {where} has an empty idempotency key")
    if command.scope is not None or command.limit_key is not None:
        return Failure(400, f"[RT0024] the call to {where} has a scope; scopes are not enabled")
    return handler


def call(turn: Turn, caller: Caller, command: Call) -> None:
    handler = resolve_callee(turn, command)
    if isinstance(handler, Failure) and not caller.in_process:
        raise _unresolved(handler)  # the callee may be registered in a moment
    turn.append(caller.id, command)
    waiter = caller.waiter(command.completion_id)
    if isinstance(handler, Failure):
        id = ids.fresh_id(command.service, None, turn.now_ms, caller.entropy.take(12))
        _tell_id(turn, caller, command.id_completion_id, id)
        return invocation.answer(turn, waiter, handler, id)
    _invoke(turn, caller, command, handler, (waiter,), None)


def one_way_call(turn: Turn, caller: Caller, command: OneWayCall) -> None:
    handler = resolve_callee(turn, command)
    if isinstance(handler, Failure):
        raise _unresolved(handler)
    turn.append(caller.id, command)
    _invoke(turn, caller, command, handler, (), command.invoke_at_ms or None)


def _unresolved(failure: Failure) -> Precondition:
    code, _, message = failure.message.partition(" ")
    return Precondition(code.strip("[]"), message, failure.code)


def _tell_id(turn: Turn, caller: Caller, completion_id: int, id: bytes) -> None:
    _complete(turn, caller, completion_id, InvocationId(ids.format_invocation_id(id)))


def _invoke(
    turn: Turn,
    caller: Caller,
    command: Call | OneWayCall,
    handler: Handler,
    waiters: tuple[Waiter, ...],
    start_at_ms: int | None,
) -> None:
    id = _callee_id(turn, caller, command, handler)
    _tell_id(turn, caller, command.id_completion_id, id)
    keyed_run = handler.type is HandlerType.WORKFLOW
    record = invocation.new(
        turn,
        handler,
        command.key if handler.keyed else None,
        seed=int.from_bytes(caller.entropy.take(8), "big"),
        invoked_by=ids.format_invocation_id(caller.id),
        waiters=waiters,
        idempotency_key=None if keyed_run else command.idempotency_key,
        start_at_ms=start_at_ms,
        trace=None if caller.trace is None else of_callee(caller.trace, caller.id),
    )
    reach.invoke(turn, caller.id, id, record, Input(command.headers, command.parameter))


def _callee_id(turn: Turn, caller: Caller, command: Call | OneWayCall, handler: Handler) -> bytes:
    """The callee's id (service protocol 4.2). What no key ties to a place stays in this partition."""
    key = command.key if handler.keyed else None
    if handler.type is HandlerType.WORKFLOW:
        return ids.workflow_id(command.service, command.key)
    if command.idempotency_key is not None:
        return ids.idempotent_id(command.service, key, command.handler, command.idempotency_key)
    id = ids.fresh_id(command.service, key, turn.now_ms, caller.entropy.take(12))
    if key is None and turn.is_elsewhere(id):
        siblings = ids.iter_siblings(command.service, id)
        id = next((each for each in siblings if not turn.is_elsewhere(each)), id)
    return id


def attach_id(target: AttachTarget) -> bytes:
    """The raw id that a target names. Raises BadId."""
    if isinstance(target, ById):
        return ids.parse_invocation_id(target.invocation_id)
    if isinstance(target, ByIdempotencyKey):
        return ids.idempotent_id(
            target.service, target.key, target.handler, target.idempotency_key, target.scope
        )
    return ids.workflow_id(target.service, target.key, target.scope)


def _attach_id(target: AttachTarget) -> bytes:
    try:
        return attach_id(target)
    except BadId as e:
        assert type(target) is ById, "other targets are not given as an id"
        text = f"bad invocation id '{target.invocation_id}': {e}"
        raise Precondition("RT0017", text) from None


def attach(turn: Turn, caller: Caller, command: AttachInvocation) -> None:
    id = _attach_id(command.target)
    turn.append(caller.id, command)
    reach.attach(turn, caller.id, id, caller.waiter(command.completion_id), waits=True)


def get_output(turn: Turn, caller: Caller, command: GetInvocationOutput) -> None:
    id = _attach_id(command.target)
    turn.append(caller.id, command)
    reach.attach(turn, caller.id, id, caller.waiter(command.completion_id), waits=False)


# ---- signals ------------------------------------------------------------------------------------


def send_signal(turn: Turn, caller: Caller, command: SendSignal) -> None:
    try:
        id = ids.parse_invocation_id(command.target_id)
    except BadId as e:
        raise Precondition("RT0012", f"bad invocation id '{command.target_id}': {e}") from None
    turn.append(caller.id, command)
    reach.signal(turn, caller.id, id, Signal(command.signal, command.result))


def complete_awakeable(turn: Turn, caller: Caller, command: CompleteAwakeable) -> None:
    try:
        id, signal = ids.parse_awakeable_id(command.awakeable_id)
    except BadId as e:
        raise Precondition("RT0012", f"bad awakeable id '{command.awakeable_id}': {e}") from None
    turn.append(caller.id, command)
    reach.signal(turn, caller.id, id, Signal(signal, command.result))


EFFECTS: dict[type, Effect] = {
    Output: store,
    GetEagerState: store_read,
    GetEagerStateKeys: store_read,
    Run: store,
    GetLazyState: get_lazy_state,
    GetLazyStateKeys: get_lazy_state_keys,
    SetState: set_state,
    ClearState: clear_state,
    ClearAllState: clear_all_state,
    GetPromise: get_promise,
    PeekPromise: peek_promise,
    CompletePromise: complete_promise,
    Sleep: sleep,
    Call: call,
    OneWayCall: one_way_call,
    SendSignal: send_signal,
    AttachInvocation: attach,
    GetInvocationOutput: get_output,
    CompleteAwakeable: complete_awakeable,
}
