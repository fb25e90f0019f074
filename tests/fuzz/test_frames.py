"""Whatever a peer sends, only ProtocolError may come out of the frame reader and the message readers.

Both directions: what a deployment sends the runtime, and what a runtime sends our SDK's endpoint. Three
sources: bytes at random, real frames with bytes changed, and messages of any fields in any order.

Each stream that hypothesis thinks of is read as it is and in 99 mutants, from a seed that is part of the
example. A run of the suite tries 10,000 streams each way; by hand, as many as you like:

    PERDURE_FUZZ_CASES=1000000 .venv/bin/pytest tests/fuzz/test_frames.py
"""

import os
from collections.abc import Callable, Iterable
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.journal import entries
from perdure.journal.errors import ProtocolError
from perdure.journal.wire.commands import (
    command_frame,
    completion_types,
    is_command_type,
    read_command,
)
from perdure.journal.wire.control import (
    control_frame,
    read_control,
    read_run_ack,
    read_start,
    run_ack_frame,
    start_frame,
)
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame, frame
from perdure.journal.wire.notifications import (
    is_notification_type,
    notification_frame,
    read_notification,
)
from tests.journal.wire.strategies import commands, controls, starts, typed_notifications

_CASES = int(os.environ.get("PERDURE_FUZZ_CASES", "10000"))
_CASES_PER_EXAMPLE = 100
_LIMIT_BYTES = 4096

fuzz = settings(
    max_examples=max(1, _CASES // _CASES_PER_EXAMPLE),
    deadline=None,
    derandomize="PERDURE_FUZZ_CASES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
versions = st.sampled_from([5, 6, 7])
seeds = st.integers(0, 2**32)

# ---- what arrives -------------------------------------------------------------------------------

_sent = st.one_of(
    commands.map(command_frame),
    typed_notifications.map(lambda each: notification_frame(each[0], each[1], 7)),
    controls.map(lambda each: control_frame(each, 7)),
    starts.map(lambda each: start_frame(each, 7)),
    st.integers(0, 2**32 - 1).map(run_ack_frame),
)
_ALL_TYPES = [int(each) for each in FrameType]
_types = st.sampled_from(_ALL_TYPES) | st.integers(0, 0xFFFF)
_KINDS = ("set", "insert", "delete", "double")
_changes = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, 4000), st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)


def _changed(data: bytes, changes: Iterable[tuple[str, int, bytes]]) -> bytes:
    out = bytearray(data)
    for kind, place, content in changes:
        at = place % (len(out) + 1)
        match kind:
            case "set":
                out[at : at + len(content)] = content
            case "insert":
                out[at:at] = content
            case "delete":
                del out[at : at + 1 + len(content)]
            case _:
                out[at:at] = out[at : at + 8]
    return bytes(out)


def _mutant(data: bytes, random: Random) -> bytes:
    """Some change anywhere, or within one frame whose length stays right."""
    change = (random.choice(_KINDS), random.randrange(4000), random.randbytes(random.randrange(3)))
    if random.random() < 0.3:
        return _changed(data, [change])
    frames = FrameReader(1 << 20).feed(data)
    if not frames:
        return _changed(data, [change])
    chosen = random.choice(frames)
    kind = random.choice(_ALL_TYPES) if random.random() < 0.2 else chosen.type
    return frame(kind, _changed(chosen.payload, [change]), chosen.flags)


def _with_its_length(data: bytes) -> bytes:
    """The header's length made right again, so that the payload is what gets read."""
    return data[:4] + (max(0, len(data) - 8)).to_bytes(4, "big") + data[8:]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _delimited(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _field(tagged: tuple[int, tuple[int, bytes]]) -> bytes:
    number, (wire_type, content) = tagged
    return _varint(number << 3 | wire_type) + content


def _messages(nested: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    contents = st.one_of(
        st.tuples(st.just(0), st.integers(0, 2**64 - 1).map(_varint)),
        st.tuples(st.just(1), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just(2), (nested | st.binary(max_size=6)).map(_delimited)),
        st.tuples(st.just(5), st.binary(min_size=4, max_size=4)),
    )
    fields = st.tuples(st.integers(1, 17), contents).map(_field)
    return st.lists(fields, max_size=5).map(b"".join)


_random_messages = st.recursive(st.just(b""), _messages, max_leaves=6)
_random_frames = st.builds(frame, _types, _random_messages | st.binary(max_size=40))
_mutated = st.builds(_changed, _sent, _changes)
_mutated_payloads = st.builds(
    lambda data, changes: _with_its_length(data[:8] + _changed(data[8:], changes)), _sent, _changes
)
_retyped = st.builds(lambda data, type: type.to_bytes(2, "big") + data[2:], _sent, _types)
streams = st.lists(
    st.one_of(_sent, _mutated, _mutated_payloads, _retyped, _random_frames, st.binary(max_size=30)),
    max_size=4,
).map(b"".join)


# ---- who reads it -------------------------------------------------------------------------------


def _from_deployment(raw: RawFrame, version: int) -> None:
    """As the runtime reads; what it took must encode again."""
    if is_command_type(raw.type):
        command = read_command(raw)
        assert command_frame(command) == frame(raw.type, raw.payload)
        known = command.command if isinstance(command, entries.Verbatim) else command
        completion_types(known)
        stored = entries.decode_segment(entries.encode([command]))
        assert stored == (command,)
    else:
        control = read_control(raw, version)
        again = RawFrame(raw.type, 0, control_frame(control, version)[8:])
        assert read_control(again, version) == control


def _from_runtime(raw: RawFrame, version: int) -> None:
    """As our SDK's endpoint reads."""
    if raw.type == FrameType.START:
        read_start(raw)
    elif raw.type == FrameType.PROPOSE_RUN_COMPLETION_ACK:
        read_run_ack(raw)
    elif is_notification_type(raw.type):
        notification = read_notification(raw)
        again = notification_frame(notification, raw.type, 7)[8:]
        assert read_notification(RawFrame(raw.type, 0, again)) == notification
    else:
        read_command(raw)


Reader = Callable[[RawFrame, int], None]


def _read(data: bytes, cut: int, version: int, reader: Reader) -> None:
    frames = FrameReader(_LIMIT_BYTES)
    at = cut % (len(data) + 1)
    try:
        arrived = frames.feed(data[:at]) + frames.feed(data[at:])
    except ProtocolError as e:
        _require(e, "[RT0003] ")
        return
    for raw in arrived:
        try:
            reader(raw, version)
        except ProtocolError as e:
            _require(e, "[RT0012] ", "[RT0025] ")


def _require(error: ProtocolError, *beginnings: str) -> None:
    assert str(error).startswith(beginnings), error


def _try(data: bytes, seed: int, version: int, reader: Reader) -> None:
    random = Random(seed)
    _read(data, random.randrange(4000), version, reader)
    try:
        FrameReader(1 << 20).feed(data)
    except ProtocolError:
        return  # its mutants would be refused alike
    for _ in range(_CASES_PER_EXAMPLE - 1):
        _read(_mutant(data, random), random.randrange(4000), version, reader)


@fuzz
@given(streams, seeds, versions)
def test_a_runtime_refuses_or_reads_whatever_a_deployment_sends(
    data: bytes, seed: int, version: int
) -> None:
    _try(data, seed, version, _from_deployment)


@fuzz
@given(streams, seeds, versions)
def test_an_endpoint_refuses_or_reads_whatever_a_runtime_sends(
    data: bytes, seed: int, version: int
) -> None:
    _try(data, seed, version, _from_runtime)
