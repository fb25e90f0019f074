"""The payload of every command, both ways: one reader and one builder each, and the tables of them.

A reader raises ProtocolError where something is missing that has no default (service protocol 3.3); a
builder raises ValueError where a field does not fit. Field by field: service protocol 3.5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from perdure.journal.entries import (
    AttachInvocation,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Value,
)
from perdure.journal.wire import call_messages as calls
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import FrameType, RawFrame
from perdure.journal.wire.shared import (
    failure_message,
    header_messages,
    headers,
    outcome,
    parse,
    refuse,
    state_key,
    state_keys,
    state_keys_message,
)

# ---- input and output ---------------------------------------------------------------------------


def _read_input(raw: RawFrame) -> Input:
    message = parse(pb.InputCommand.FromString, raw)
    if not message.HasField("value"):
        refuse(raw.type, "a value", "it is absent")
    return Input(headers(message.headers), message.value.content)


def _build_input(entry: Input) -> bytes:
    return pb.InputCommand(
        headers=header_messages(entry.headers), value={"content": entry.value}
    ).SerializeToString()


def _read_output(raw: RawFrame) -> Output:
    message = parse(pb.OutputCommand.FromString, raw)
    return Output(outcome(message, "result", raw.type), message.name)


def _build_output(entry: Output) -> bytes:
    result = entry.result
    if isinstance(result, Value):
        return pb.OutputCommand(
            value={"content": result.content}, name=entry.name
        ).SerializeToString()
    return pb.OutputCommand(failure=failure_message(result), name=entry.name).SerializeToString()


# ---- state --------------------------------------------------------------------------------------


def _read_get_lazy_state(raw: RawFrame) -> GetLazyState:
    message = parse(pb.GetLazyStateCommand.FromString, raw)
    return GetLazyState(
        message.result_completion_id, state_key(message.key, raw.type), message.name
    )


def _build_get_lazy_state(entry: GetLazyState) -> bytes:
    return pb.GetLazyStateCommand(
        key=entry.key.encode(), result_completion_id=entry.completion_id, name=entry.name
    ).SerializeToString()


def _read_set_state(raw: RawFrame) -> SetState:
    message = parse(pb.SetStateCommand.FromString, raw)
    if not message.HasField("value"):
        refuse(raw.type, "a value", "it is absent")
    return SetState(state_key(message.key, raw.type), message.value.content, message.name)


def _build_set_state(entry: SetState) -> bytes:
    return pb.SetStateCommand(
        key=entry.key.encode(), value={"content": entry.value}, name=entry.name
    ).SerializeToString()


def _read_clear_state(raw: RawFrame) -> ClearState:
    message = parse(pb.ClearStateCommand.FromString, raw)
    return ClearState(state_key(message.key, raw.type), message.name)


def _build_clear_state(entry: ClearState) -> bytes:
    return pb.ClearStateCommand(key=entry.key.encode(), name=entry.name).SerializeToString()


def _read_clear_all(raw: RawFrame) -> ClearAllState:
    return ClearAllState(parse(pb.ClearAllStateCommand.FromString, raw).name)


def _build_clear_all(entry: ClearAllState) -> bytes:
    return pb.ClearAllStateCommand(name=entry.name).SerializeToString()


def _read_lazy_keys(raw: RawFrame) -> GetLazyStateKeys:
    message = parse(pb.GetLazyStateKeysCommand.FromString, raw)
    return GetLazyStateKeys(message.result_completion_id, message.name)


def _build_lazy_keys(entry: GetLazyStateKeys) -> bytes:
    return pb.GetLazyStateKeysCommand(
        result_completion_id=entry.completion_id, name=entry.name
    ).SerializeToString()


def _read_eager_state(raw: RawFrame) -> GetEagerState:
    message = parse(pb.GetEagerStateCommand.FromString, raw)
    which = message.WhichOneof("result")
    if which is None:
        refuse(raw.type, "a value or void", "neither is present")
    value = message.value.content if which == "value" else None
    return GetEagerState(state_key(message.key, raw.type), value, message.name)


def _build_eager_state(entry: GetEagerState) -> bytes:
    key = entry.key.encode()
    if entry.value is None:
        return pb.GetEagerStateCommand(key=key, void={}, name=entry.name).SerializeToString()
    return pb.GetEagerStateCommand(
        key=key, value={"content": entry.value}, name=entry.name
    ).SerializeToString()


def _read_eager_keys(raw: RawFrame) -> GetEagerStateKeys:
    message = parse(pb.GetEagerStateKeysCommand.FromString, raw)
    if not message.HasField("value"):
        refuse(raw.type, "the state's keys", "they are absent")
    return GetEagerStateKeys(state_keys(message.value, raw.type), message.name)


def _build_eager_keys(entry: GetEagerStateKeys) -> bytes:
    return pb.GetEagerStateKeysCommand(
        value=state_keys_message(entry.keys), name=entry.name
    ).SerializeToString()


# ---- promises and time --------------------------------------------------------------------------


def _read_get_promise(raw: RawFrame) -> GetPromise:
    message = parse(pb.PromiseCommand.FromString, raw)
    return GetPromise(message.result_completion_id, message.key, message.name)


def _read_peek_promise(raw: RawFrame) -> PeekPromise:
    message = parse(pb.PromiseCommand.FromString, raw)
    return PeekPromise(message.result_completion_id, message.key, message.name)


def _build_promise(entry: GetPromise | PeekPromise) -> bytes:
    return pb.PromiseCommand(
        key=entry.key, result_completion_id=entry.completion_id, name=entry.name
    ).SerializeToString()


def _read_completion(raw: RawFrame) -> CompletePromise:
    message = parse(pb.CompletePromiseCommand.FromString, raw)
    result = outcome(message, "completion", raw.type)
    return CompletePromise(message.result_completion_id, message.key, result, message.name)


def _build_completion(entry: CompletePromise) -> bytes:
    message = pb.CompletePromiseCommand(
        key=entry.key, result_completion_id=entry.completion_id, name=entry.name
    )
    if isinstance(entry.result, Value):
        message.completion_value.CopyFrom(pb.Value(content=entry.result.content))
    else:
        message.completion_failure.CopyFrom(failure_message(entry.result))
    return message.SerializeToString()


def _read_sleep(raw: RawFrame) -> Sleep:
    message = parse(pb.SleepCommand.FromString, raw)
    return Sleep(message.result_completion_id, message.wake_up_time, message.name)


def _build_sleep(entry: Sleep) -> bytes:
    return pb.SleepCommand(
        wake_up_time=entry.wake_up_at_ms,
        result_completion_id=entry.completion_id,
        name=entry.name,
    ).SerializeToString()


def _read_run(raw: RawFrame) -> Run:
    message = parse(pb.RunCommand.FromString, raw)
    return Run(message.result_completion_id, message.name)


def _build_run(entry: Run) -> bytes:
    return pb.RunCommand(
        result_completion_id=entry.completion_id, name=entry.name
    ).SerializeToString()


# ---- all of them --------------------------------------------------------------------------------


class _Kind(NamedTuple):
    type: FrameType
    entry: Any  # the class
    read: Callable[[RawFrame], Command]
    build: Callable[[Any], bytes]


_KINDS = (
    _Kind(FrameType.INPUT, Input, _read_input, _build_input),
    _Kind(FrameType.OUTPUT, Output, _read_output, _build_output),
    _Kind(FrameType.GET_LAZY_STATE, GetLazyState, _read_get_lazy_state, _build_get_lazy_state),
    _Kind(FrameType.SET_STATE, SetState, _read_set_state, _build_set_state),
    _Kind(FrameType.CLEAR_STATE, ClearState, _read_clear_state, _build_clear_state),
    _Kind(FrameType.CLEAR_ALL_STATE, ClearAllState, _read_clear_all, _build_clear_all),
    _Kind(FrameType.GET_LAZY_STATE_KEYS, GetLazyStateKeys, _read_lazy_keys, _build_lazy_keys),
    _Kind(FrameType.GET_EAGER_STATE, GetEagerState, _read_eager_state, _build_eager_state),
    _Kind(FrameType.GET_EAGER_STATE_KEYS, GetEagerStateKeys, _read_eager_keys, _build_eager_keys),
    _Kind(FrameType.GET_PROMISE, GetPromise, _read_get_promise, _build_promise),
    _Kind(FrameType.PEEK_PROMISE, PeekPromise, _read_peek_promise, _build_promise),
    _Kind(FrameType.COMPLETE_PROMISE, CompletePromise, _read_completion, _build_completion),
    _Kind(FrameType.SLEEP, Sleep, _read_sleep, _build_sleep),
    _Kind(FrameType.CALL, Call, calls.read_call, calls.build_call),
    _Kind(FrameType.ONE_WAY_CALL, OneWayCall, calls.read_one_way, calls.build_one_way),
    _Kind(FrameType.SEND_SIGNAL, SendSignal, calls.read_signal, calls.build_signal),
    _Kind(FrameType.RUN, Run, _read_run, _build_run),
    _Kind(FrameType.ATTACH_INVOCATION, AttachInvocation, calls.read_attach, calls.build_attach),
    _Kind(
        FrameType.GET_INVOCATION_OUTPUT,
        GetInvocationOutput,
        calls.read_get_output,
        calls.build_attach,
    ),
    _Kind(
        FrameType.COMPLETE_AWAKEABLE,
        CompleteAwakeable,
        calls.read_awakeable,
        calls.build_awakeable,
    ),
)

TYPES: dict[Any, int] = {each.entry: int(each.type) for each in _KINDS}
READERS = {int(each.type): each.read for each in _KINDS}
BUILDERS: dict[Any, Callable[[Any], bytes]] = {each.entry: each.build for each in _KINDS}
