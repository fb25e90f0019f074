"""Notifications: entry to frame and frame to entry. One message serves all; the frame's type tells which.

Rules: service protocol 3.6; failures carry metadata from V6 (trap 20).
"""

from perdure.journal.entries import (
    Completion,
    Failure,
    InvocationId,
    Notification,
    Result,
    Signal,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import (
    FIRST_NOTIFICATION,
    LAST_NOTIFICATION,
    FrameType,
    RawFrame,
    frame,
)
from perdure.journal.wire.shared import (
    failure,
    failure_message,
    parse,
    refuse,
    state_keys,
    state_keys_message,
    unencodable,
)

_FAILURES_HAVE_METADATA = 6  # from this version
_SIGNAL = int(FrameType.SIGNAL)
_VOID = Void()
_OUTCOMES = frozenset({"value", "failure"})
_ALLOWED: dict[int, frozenset[str]] = {
    int(type): frozenset(results)
    for type, results in {
        FrameType.GET_LAZY_STATE_COMPLETION: {"void", "value"},
        FrameType.GET_LAZY_STATE_KEYS_COMPLETION: {"state_keys"},
        FrameType.GET_PROMISE_COMPLETION: _OUTCOMES,
        FrameType.PEEK_PROMISE_COMPLETION: _OUTCOMES | {"void"},
        FrameType.COMPLETE_PROMISE_COMPLETION: {"void", "failure"},
        FrameType.SLEEP_COMPLETION: {"void"},
        FrameType.CALL_COMPLETION: _OUTCOMES,
        FrameType.CALL_INVOCATION_ID_COMPLETION: {"invocation_id"},
        FrameType.RUN_COMPLETION: _OUTCOMES,
        FrameType.ATTACH_INVOCATION_COMPLETION: _OUTCOMES,
        FrameType.GET_INVOCATION_OUTPUT_COMPLETION: _OUTCOMES | {"void"},
        FrameType.SIGNAL: _OUTCOMES | {"void"},
    }.items()
}


def is_notification_type(type: int) -> bool:
    """By range; a type in it that no version knows is refused when it is read."""
    return FIRST_NOTIFICATION <= type <= LAST_NOTIFICATION


def notification_frame(notification: Notification, type: int, version: int) -> bytes:
    """``type``: of a completion's frame (``commands.completion_types``); signals have their own.

    Raises ProtocolError where a field does not fit.
    """
    try:
        message = pb.Notification()
        if isinstance(notification, Completion):
            message.completion_id = notification.completion_id
        else:
            type = _SIGNAL
            if isinstance(notification.signal, str):
                message.signal_name = notification.signal
            else:
                message.signal_idx = notification.signal
        _put(notification.result, message, version)
        return frame(type, message.SerializeToString())
    except ValueError as e:
        raise unencodable(type, e) from e


def _put(result: Result, message: pb.Notification, version: int) -> None:
    match result:
        case Value():
            message.value.CopyFrom(pb.Value(content=result.content))
        case Void():
            message.void.SetInParent()
        case Failure():
            with_metadata = version >= _FAILURES_HAVE_METADATA
            message.failure.CopyFrom(failure_message(result, with_metadata))
        case InvocationId():
            message.invocation_id = result.id
        case StateKeys():
            message.state_keys.CopyFrom(state_keys_message(result.keys))


def read_notification(raw: RawFrame) -> Notification:
    """Raises ProtocolError, also where a result is of a kind that this type cannot have."""
    allowed = _ALLOWED.get(raw.type)
    if allowed is None:
        refuse(raw.type, "a notification of protocol V5 to V7", "no version knows this type")
    message = parse(pb.Notification.FromString, raw)
    which = message.WhichOneof("result")
    if which not in allowed:
        came = "it has no result" if which is None else f"its result is {which}"
        refuse(raw.type, " or ".join(sorted(allowed)), came)
    result: Result
    match which:
        case "value":
            result = Value(message.value.content)
        case "void":
            result = _VOID
        case "failure":
            result = failure(message.failure)
        case "invocation_id":
            result = InvocationId(message.invocation_id)
        case _:
            result = StateKeys(state_keys(message.state_keys, raw.type))
    return _addressed(raw.type, message, result)


def _addressed(type: int, message: pb.Notification, result: Result) -> Notification:
    """The entry, by the id the message has; only a signal is addressed by index or name."""
    which = message.WhichOneof("id")
    if type != _SIGNAL:
        if which != "completion_id":
            refuse(type, "a completion id", f"its id is {which}")
        return Completion(message.completion_id, result)
    assert isinstance(result, Void | Value | Failure)
    match which:
        case "signal_idx":
            return Signal(message.signal_idx, result)
        case "signal_name":
            return Signal(message.signal_name, result)
        case _:
            refuse(type, "a signal's index or name", f"its id is {which}")
