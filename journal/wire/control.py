"""Control frames, both ways: the start of an attempt, what the handler's side says besides commands, acks.

What differs between the versions: V6 adds the random seed; V7 adds scope, limit key and idempotency key
of the start, trees of what is awaited, and acks of runs. Rules: service protocol 3.4, 5.4, 5.7, 5.8.
"""

from typing import TypeAlias

import msgspec
from google.protobuf.message import Message

from perdure.journal.attempt import (
    AwaitingOn,
    Behavior,
    Ended,
    Failed,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import Value
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.commands import tag_of_type, type_of_tag
from perdure.journal.wire.frames import REQUESTED_ACK, FrameType, RawFrame, frame, frame_name
from perdure.journal.wire.futures import (
    check_size,
    from_leaves,
    leaves,
    read_tree,
    require_leaf,
    write_tree,
)
from perdure.journal.wire.shared import (
    failure,
    failure_message,
    parse,
    refuse,
    state_key,
    unencodable,
)

Control: TypeAlias = ProposeRun | AwaitingOn | Suspended | Ended | Failed

_SEED_FROM = 6
_TREES_FROM = 7  # and run acks, and the start's scope, limit key, idempotency key
_ID_BYTES = 24
_BEHAVIORS = {int(each): each for each in Behavior}


# ---- the start ----------------------------------------------------------------------------------


class StartMessage(msgspec.Struct, frozen=True):
    """What the message says; ``known_entry_count`` frames of entries follow it, the Input among them."""

    id: bytes  # 24 bytes
    debug_id: str
    known_entry_count: int
    key: str
    state: dict[str, bytes]
    partial_state: bool
    retry_count: int
    retry_duration_ms: int
    random_seed: int | None  # None: absent, which from V6 on stands for 0
    scope: str | None
    limit_key: str | None
    idempotency_key: str | None


def start_frame(start: Start, version: int) -> bytes:
    """The message alone; its entries follow as frames of their own. Raises ProtocolError."""
    try:
        message = pb.Start(
            id=start.id,
            debug_id=start.invocation_id,
            known_entries=len(start.entries),
            state_map=[
                pb.StateEntry(key=key.encode(), value=value) for key, value in start.state.items()
            ],
            partial_state=not start.state_complete,
            key=start.key,
            retry_count_since_last_stored_entry=start.retry_count,
            duration_since_last_stored_entry=start.retry_duration_ms,
        )
        if version >= _SEED_FROM:
            message.random_seed = start.random_seed
        if version >= _TREES_FROM:
            if start.scope is not None:
                message.scope = start.scope
            if start.limit_key is not None:
                message.limit_key = start.limit_key
            if start.idempotency_key is not None:
                message.idempotency_key = start.idempotency_key
    except ValueError as e:
        raise unencodable(FrameType.START, e) from e
    return frame(FrameType.START, message.SerializeToString())


def read_start(raw: RawFrame) -> StartMessage:
    """Raises ProtocolError, also for an id that is not 24 bytes, and where no Input can follow."""
    _require_type(raw, FrameType.START)
    message = parse(pb.Start.FromString, raw)
    if len(message.id) != _ID_BYTES:
        refuse(raw.type, f"an id of {_ID_BYTES} bytes", f"it has {len(message.id)}")
    if message.known_entries == 0:
        refuse(raw.type, "at least one known entry", "there is none")
    return StartMessage(
        id=message.id,
        debug_id=message.debug_id,
        known_entry_count=message.known_entries,
        key=message.key,
        state={state_key(each.key, raw.type): each.value for each in message.state_map},
        partial_state=message.partial_state,
        retry_count=message.retry_count_since_last_stored_entry,
        retry_duration_ms=message.duration_since_last_stored_entry,
        random_seed=message.random_seed if message.HasField("random_seed") else None,
        scope=message.scope if message.HasField("scope") else None,
        limit_key=message.limit_key if message.HasField("limit_key") else None,
        idempotency_key=message.idempotency_key if message.HasField("idempotency_key") else None,
    )


def _require_type(raw: RawFrame, type: FrameType) -> None:
    if raw.type != type:
        refuse(raw.type, frame_name(type), "this frame came")


# ---- from the handler's side --------------------------------------------------------------------


def control_frame(control: Control, version: int) -> bytes:
    """Raises ProtocolError for AwaitingOn below V7, and where a field does not fit."""
    type = FrameType.END
    try:
        match control:
            case ProposeRun():
                type = FrameType.PROPOSE_RUN_COMPLETION
                flags = REQUESTED_ACK if version >= _TREES_FROM else 0
                return frame(type, _proposal(control).SerializeToString(), flags)
            case AwaitingOn():
                type = FrameType.AWAITING_ON
                if version < _TREES_FROM:
                    refuse(type, "protocol V7", f"V{version} is spoken here")
                message: Message = pb.AwaitingOn(awaiting_on=write_tree(control.awaiting))
            case Suspended():
                type = FrameType.SUSPENSION
                message = _suspension(control, version)
            case Failed():
                type = FrameType.ERROR
                message = _error(control)
            case Ended():
                message = pb.End()
        return frame(type, message.SerializeToString())
    except ValueError as e:
        raise unencodable(type, e) from e


def _proposal(proposal: ProposeRun) -> pb.ProposeRunCompletion:
    """Unlike everywhere else, the value is bare bytes (trap 5)."""
    message = pb.ProposeRunCompletion(result_completion_id=proposal.completion_id)
    if isinstance(proposal.result, Value):
        message.value = proposal.result.content
    else:
        message.failure.CopyFrom(failure_message(proposal.result))
    return message


def _suspension(suspended: Suspended, version: int) -> pb.Suspension:
    if version >= _TREES_FROM:
        return pb.Suspension(awaiting_on=write_tree(suspended.awaiting))
    completions, indexes, names = leaves(suspended.awaiting)
    return pb.Suspension(
        waiting_completions=completions, waiting_signals=indexes, waiting_named_signals=names
    )


def _error(failed: Failed) -> pb.Error:
    return pb.Error(
        code=failed.code,
        message=failed.message,
        stacktrace=failed.stacktrace,
        related_command_index=failed.related_command_index,
        related_command_name=failed.related_command_name or None,
        related_command_type=type_of_tag(failed.related_command_type),
        next_retry_delay=failed.next_retry_delay_ms,
        behavior=failed.behavior,
    )


def read_control(raw: RawFrame, version: int) -> Control:
    """Raises ProtocolError, also for every type that only the runtime's side may send.

    Of a proposal the flag is not looked at; a Suspended has ``seen_count`` 0.
    """
    match raw.type:
        case FrameType.PROPOSE_RUN_COMPLETION:
            return _read_proposal(raw)
        case FrameType.AWAITING_ON:
            return _read_awaiting_on(raw, version)
        case FrameType.SUSPENSION:
            return _read_suspension(raw, version)
        case FrameType.ERROR:
            return _read_error(raw)
        case FrameType.END:
            parse(pb.End.FromString, raw)
            return Ended()
        case _:
            refuse(raw.type, "a frame that a deployment may send", "this type came")


def _read_proposal(raw: RawFrame) -> ProposeRun:
    message = parse(pb.ProposeRunCompletion.FromString, raw)
    match message.WhichOneof("result"):
        case "value":
            return ProposeRun(message.result_completion_id, Value(message.value))
        case "failure":
            return ProposeRun(message.result_completion_id, failure(message.failure))
        case _:
            refuse(raw.type, "a value or a failure", "neither is present")


def _read_awaiting_on(raw: RawFrame, version: int) -> AwaitingOn:
    if version < _TREES_FROM:
        refuse(raw.type, "a frame of the version that is spoken", f"that is V{version}")
    check_size(raw)
    message = parse(pb.AwaitingOn.FromString, raw)
    if not message.HasField("awaiting_on"):
        refuse(raw.type, "what is awaited", "it is absent")
    return AwaitingOn(read_tree(message.awaiting_on, raw.type))


def _read_suspension(raw: RawFrame, version: int) -> Suspended:
    check_size(raw)
    message = parse(pb.Suspension.FromString, raw)
    if version < _TREES_FROM:
        return Suspended(require_leaf(from_leaves(message), raw.type), 0)
    if not message.HasField("awaiting_on"):
        refuse(raw.type, "what is awaited, as a tree", "it is absent")
    return Suspended(require_leaf(read_tree(message.awaiting_on, raw.type), raw.type), 0)


def _read_error(raw: RawFrame) -> Failed:
    message = parse(pb.Error.FromString, raw)
    behavior = _BEHAVIORS.get(message.behavior)
    if behavior is None:
        refuse(raw.type, "a behavior from 0 to 2", f"{message.behavior} came")
    has = message.HasField
    return Failed(
        message.code,
        message.message,
        message.stacktrace,
        message.next_retry_delay if has("next_retry_delay") else None,
        behavior,
        message.related_command_index if has("related_command_index") else None,
        message.related_command_name,
        tag_of_type(message.related_command_type) if has("related_command_type") else "",
    )


# ---- acks ---------------------------------------------------------------------------------------


def run_ack_frame(completion_id: int) -> bytes:
    """V7: the result of a run that asked for it is durable. Never during replay (protocol 5.7)."""
    message = pb.ProposeRunCompletionAck(completion_id=completion_id)
    return frame(FrameType.PROPOSE_RUN_COMPLETION_ACK, message.SerializeToString())


def read_run_ack(raw: RawFrame) -> int:
    """The completion id. Raises ProtocolError."""
    _require_type(raw, FrameType.PROPOSE_RUN_COMPLETION_ACK)
    return parse(pb.ProposeRunCompletionAck.FromString, raw).completion_id
