"""What all kinds of messages share: parsing, building, values, failures, headers, state keys.

All that a peer can get wrong ends here or in the callers as a ProtocolError of one shape: RT0012, the
frame, what was expected, what came. Rules: service protocol 3.3.
"""

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message

from perdure.journal.entries import Failure, Headers, Outcome, Value
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import RawFrame, frame_name

M = TypeVar("M", bound=Message)


def refuse(type: int, expected: str, came: str) -> NoReturn:
    raise ProtocolError(f"[RT0012] {frame_name(type)}: expected {expected}, but {came}")


def parse(message: Callable[[bytes], M], raw: RawFrame) -> M:
    """``message``: the ``FromString`` of the class that the frame's type names."""
    try:
        return message(raw.payload)
    except (DecodeError, ValueError) as e:
        raise ProtocolError(
            f"[RT0012] {frame_name(raw.type)}: expected a protobuf message,"
            f" but its {len(raw.payload)} bytes do not parse: {e}"
        ) from e


def unencodable(type: int, error: ValueError) -> ProtocolError:
    """For what no message can hold: a number past its width, text that is not Unicode."""
    return ProtocolError(f"[RT0012] {frame_name(type)}: cannot be encoded: {error}")


# ---- state keys ---------------------------------------------------------------------------------


def state_key(raw: bytes, type: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        refuse(type, "a state key in UTF-8", f"{raw[:64]!r} came")


def state_keys(keys: pb.StateKeys, type: int) -> tuple[str, ...]:
    try:
        return tuple([each.decode() for each in keys.keys])
    except UnicodeDecodeError as e:
        refuse(type, "state keys in UTF-8", f"{e.object[:64]!r} came")


def state_keys_message(keys: tuple[str, ...]) -> pb.StateKeys:
    return pb.StateKeys(keys=[each.encode() for each in keys])


# ---- failures, outcomes, headers ----------------------------------------------------------------


def failure(message: pb.Failure) -> Failure:
    if not message.metadata:
        return Failure(message.code, message.message)
    metadata = {each.key: each.value for each in message.metadata}
    return Failure(message.code, message.message, metadata)


def failure_message(failure: Failure, with_metadata: bool = True) -> pb.Failure:
    """The stack trace stays here: the protocol has no place for it."""
    if not failure.metadata or not with_metadata:
        return pb.Failure(code=failure.code, message=failure.message)
    pairs = [{"key": key, "value": value} for key, value in failure.metadata.items()]
    return pb.Failure(code=failure.code, message=failure.message, metadata=pairs)


def outcome(message: Message, oneof: str, type: int) -> Outcome:
    """What is present of a oneof of a value and a failure. Raises ProtocolError where nothing is."""
    which = message.WhichOneof(oneof)
    if which is None:
        refuse(type, "a value or a failure", "neither is present")
    present = getattr(message, which)
    if isinstance(present, pb.Value):
        return Value(present.content)
    return failure(present)


def headers(pairs: Iterable[pb.Header]) -> Headers:
    return tuple([(each.key, each.value) for each in pairs])


def header_messages(headers: Headers) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in headers]
