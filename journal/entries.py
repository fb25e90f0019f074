"""Journal entries: commands, written by the handler, and notifications, written by the runtime.

The tags and field orders are on disk for ever: add a struct, or a last field with a default; never
rename, never reorder. Semantics: service protocol V7 (which contains V5 and V6).
An entry is encoded as a msgpack array that begins with its tag (docs/journal-format.md).
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, overload

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of what is stored: immutable, an array on disk, never part of a cycle."""


Headers: TypeAlias = tuple[tuple[str, str], ...]

# ---- results ------------------------------------------------------------------------------------


class Void(Record, frozen=True, tag="void"):
    """Success without a value: an absent state key, a timer that fired."""


class Value(Record, frozen=True, tag="value"):
    content: bytes


class Failure(Record, frozen=True, tag="failure"):
    """A terminal failure."""

    code: int
    message: str
    metadata: dict[str, str] = {}
    stacktrace: str = ""


class StateKeys(Record, frozen=True, tag="state_keys"):
    keys: tuple[str, ...]


class InvocationId(Record, frozen=True, tag="invocation_id"):
    id: str


Outcome: TypeAlias = Value | Failure  # how an invocation, a run, a promise ends
SignalResult: TypeAlias = Void | Value | Failure
Result: TypeAlias = Void | Value | Failure | StateKeys | InvocationId

# ---- commands -----------------------------------------------------------------------------------
# completion ids are allocated by the handler's side, from 1; ``name`` is what the user called the entry


class Input(Record, frozen=True, tag="input"):
    """Entry 0 of every journal, written by the runtime."""

    headers: Headers
    value: bytes


class Output(Record, frozen=True, tag="output"):
    result: Outcome
    name: str = ""


class GetLazyState(Record, frozen=True, tag="get_lazy_state"):
    completion_id: int
    key: str
    name: str = ""


class GetLazyStateKeys(Record, frozen=True, tag="get_lazy_state_keys"):
    completion_id: int
    name: str = ""


class GetEagerState(Record, frozen=True, tag="get_eager_state"):
    """A read that was answered on the handler's side; None where the key is absent."""

    key: str
    value: bytes | None
    name: str = ""


class GetEagerStateKeys(Record, frozen=True, tag="get_eager_state_keys"):
    keys: tuple[str, ...]
    name: str = ""


class SetState(Record, frozen=True, tag="set_state"):
    key: str
    value: bytes
    name: str = ""


class ClearState(Record, frozen=True, tag="clear_state"):
    key: str
    name: str = ""


class ClearAllState(Record, frozen=True, tag="clear_all_state"):
    name: str = ""


class GetPromise(Record, frozen=True, tag="get_promise"):
    completion_id: int
    key: str
    name: str = ""


class PeekPromise(Record, frozen=True, tag="peek_promise"):
    completion_id: int
    key: str
    name: str = ""


class CompletePromise(Record, frozen=True, tag="complete_promise"):
    completion_id: int
    key: str
    result: Outcome
    name: str = ""


class Sleep(Record, frozen=True, tag="sleep"):
    completion_id: int
    wake_up_at_ms: int  # Unix epoch
    name: str = ""


class Call(Record, frozen=True, tag="call"):
    """Two completions: ``id_completion_id`` with the callee's id, then ``completion_id``."""

    id_completion_id: int
    completion_id: int
    service: str
    handler: str
    key: str  # "" for plain services
    parameter: bytes
    headers: Headers = ()
    idempotency_key: str | None = None
    scope: str | None = None
    limit_key: str | None = None
    name: str = ""


class OneWayCall(Record, frozen=True, tag="one_way_call"):
    id_completion_id: int
    service: str
    handler: str
    key: str
    parameter: bytes
    invoke_at_ms: int = 0  # Unix epoch; 0: now
    headers: Headers = ()
    idempotency_key: str | None = None
    scope: str | None = None
    limit_key: str | None = None
    name: str = ""


CANCEL_SIGNAL = 1  # the built-in signal; indexes up to 16 are reserved
FIRST_AWAKEABLE_SIGNAL = 17


class SendSignal(Record, frozen=True, tag="send_signal"):
    target_id: str
    signal: int | str  # index, or name
    result: SignalResult
    name: str = ""


class Run(Record, frozen=True, tag="run"):
    completion_id: int
    name: str = ""


class ById(Record, frozen=True, tag="by_id"):
    invocation_id: str


class ByIdempotencyKey(Record, frozen=True, tag="by_idempotency_key"):
    service: str
    key: str | None
    handler: str
    idempotency_key: str
    scope: str | None = None


class ByWorkflow(Record, frozen=True, tag="by_workflow"):
    service: str
    key: str
    scope: str | None = None


AttachTarget: TypeAlias = ById | ByIdempotencyKey | ByWorkflow


class AttachInvocation(Record, frozen=True, tag="attach_invocation"):
    completion_id: int
    target: AttachTarget
    name: str = ""


class GetInvocationOutput(Record, frozen=True, tag="get_invocation_output"):
    completion_id: int
    target: AttachTarget
    name: str = ""


class CompleteAwakeable(Record, frozen=True, tag="complete_awakeable"):
    awakeable_id: str
    result: Outcome
    name: str = ""


Command: TypeAlias = (
    Input
    | Output
    | GetLazyState
    | GetLazyStateKeys
    | GetEagerState
    | GetEagerStateKeys
    | SetState
    | ClearState
    | ClearAllState
    | GetPromise
    | PeekPromise
    | CompletePromise
    | Sleep
    | Call
    | OneWayCall
    | SendSignal
    | Run
    | AttachInvocation
    | GetInvocationOutput
    | CompleteAwakeable
)


class Verbatim(Record, frozen=True, tag="verbatim"):
    """A command of a remote SDK that says more than we know; ``wire`` is its message as it came.

    Only stored where encoding ``command`` again gives other bytes, so that replay is exact (protocol 6).
    """

    command: Command
    wire: bytes


# ---- notifications ------------------------------------------------------------------------------


class Completion(Record, frozen=True, tag="completion"):
    """Answers the command that allocated ``completion_id``."""

    completion_id: int
    result: Result


class Signal(Record, frozen=True, tag="signal"):
    """Addressed to the invocation as a whole: by index (cancel, awakeables) or by name."""

    signal: int | str
    result: SignalResult


Notification: TypeAlias = Completion | Signal
Entry: TypeAlias = Command | Verbatim | Notification

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
_decode_entries = msgspec.msgpack.Decoder(tuple[Entry, ...]).decode
_MOMENT = struct.Struct(">Q")


def encode_segment(entries: Sequence[Entry], at_ms: int) -> bytes:
    """Entries of one commit group, and when it was sealed."""
    return _MOMENT.pack(at_ms) + encode(entries)


def decode_segment(value: bytes) -> tuple[Entry, ...]:
    return _decode_entries(value if value[0] else memoryview(value)[_MOMENT.size :])


def segment_at_ms(value: bytes) -> int | None:
    """When a segment was sealed; None where an older release wrote it, without a moment."""
    return None if value[0] else int(_MOMENT.unpack_from(value)[0])


def is_command(entry: Entry) -> bool:
    return type(entry) is not Completion and type(entry) is not Signal


@overload
def plain(entry: Command | Verbatim) -> Command: ...
@overload
def plain(entry: Entry) -> Command | Notification: ...
def plain(entry: Entry) -> Command | Notification:
    """The entry as we understand it, without what only its own SDK reads."""
    return entry.command if isinstance(entry, Verbatim) else entry


def type_name(entry: Entry) -> str:
    """The entry's tag, such as ``set_state``."""
    return str(plain(entry).__struct_config__.tag)


def _result_bytes(entry: Any) -> int:
    result = entry.result
    if type(result) is Value:
        return len(result.content)
    if type(result) is Failure:
        metadata = sum(len(name) + len(value) for name, value in result.metadata.items())
        return len(result.message) + len(result.stacktrace) + metadata
    return 0


def _value_bytes(entry: Any) -> int:
    return len(entry.value)


def _parameter_bytes(entry: Any) -> int:
    return len(entry.parameter)


def _wire_bytes(entry: Any) -> int:
    return len(entry.wire)


_PAYLOADS: dict[type, Callable[[Any], int]] = {
    Verbatim: _wire_bytes,
    Output: _result_bytes,
    CompletePromise: _result_bytes,
    CompleteAwakeable: _result_bytes,
    SendSignal: _result_bytes,
    Completion: _result_bytes,
    Signal: _result_bytes,
    Input: _value_bytes,
    SetState: _value_bytes,
    Call: _parameter_bytes,
    OneWayCall: _parameter_bytes,
}


def payload_bytes(*entries: object) -> int:
    """The size of what a user put into entries, where that can be large."""
    size = 0
    for entry in entries:
        measure = _PAYLOADS.get(type(entry))
        if measure is not None:
            size += measure(entry)
    return size
