import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Behavior,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import Failure, Value
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.control import (
    Control,
    StartMessage,
    control_frame,
    read_control,
    read_run_ack,
    read_start,
    run_ack_frame,
    start_frame,
)
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame
from tests.journal.wire.strategies import controls, ids, starts
from tests.journal.wire.test_vectors import FIRST_START

VERSIONS = (5, 6, 7)


def raw_of(data: bytes) -> RawFrame:
    (raw,) = FrameReader(1 << 21).feed(data)
    return raw


def read(type: int, payload: bytes, version: int = 7) -> Control:
    return read_control(RawFrame(type, 0, payload), version)


# ---- the start ----------------------------------------------------------------------------------


@given(starts, st.sampled_from(VERSIONS))
def test_a_start_comes_back_as_far_as_its_version_goes(start: Start, version: int) -> None:
    v7 = version == 7
    assert read_start(raw_of(start_frame(start, version))) == StartMessage(
        id=start.id,
        debug_id=start.invocation_id,
        known_entry_count=len(start.entries),
        key=start.key,
        state=start.state,
        partial_state=not start.state_complete,
        retry_count=start.retry_count,
        retry_duration_ms=start.retry_duration_ms,
        random_seed=start.random_seed if version >= 6 else None,
        scope=start.scope if v7 else None,
        limit_key=start.limit_key if v7 else None,
        idempotency_key=start.idempotency_key if v7 else None,
    )


@pytest.mark.parametrize(
    "change",
    [{"random_seed": -1}, {"random_seed": 2**64}, {"retry_count": 2**32}, {"key": "\ud800"}],
)
def test_a_start_that_no_message_can_hold_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] start \(0x0000\): cannot be encoded"):
        start_frame(msgspec.structs.replace(FIRST_START, **change), 7)


RAW_ID = bytes(24)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (pb.Start(known_entries=1), "an id of 24 bytes, but it has 0"),
        (pb.Start(id=bytes(23), known_entries=1), "an id of 24 bytes, but it has 23"),
        (pb.Start(id=RAW_ID), "at least one known entry"),
        (
            pb.Start(id=RAW_ID, known_entries=1, state_map=[pb.StateEntry(key=b"\xff")]),
            "a state key in UTF-8",
        ),
    ],
)
def test_a_start_that_cannot_begin_anything_is_refused(message: pb.Start, expected: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_start(RawFrame(0, 0, message.SerializeToString()))
    assert str(caught.value).startswith(f"[RT0012] start (0x0000): expected {expected}")


def test_another_frame_is_no_start() -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] end \(0x0003\): expected start"):
        read_start(RawFrame(3, 0, b""))


def test_a_key_that_comes_twice_has_its_last_value() -> None:
    twice = [pb.StateEntry(key=b"a", value=b"1"), pb.StateEntry(key=b"a", value=b"2")]
    message = pb.Start(id=RAW_ID, known_entries=1, state_map=twice)
    assert read_start(RawFrame(0, 0, message.SerializeToString())).state == {"a": b"2"}


# ---- from the handler's side --------------------------------------------------------------------


@given(controls)
def test_what_the_handlers_side_says_comes_back_as_it_went(control: Control) -> None:
    assert read_control(raw_of(control_frame(control, 7)), 7) == control


@given(controls, st.sampled_from([5, 6]))
def test_below_version_7_trees_become_lists(control: Control, version: int) -> None:
    if isinstance(control, AwaitingOn):
        with pytest.raises(ProtocolError, match=r"^\[RT0012\] awaiting_on \(0x0006\): expected"):
            control_frame(control, version)
        return
    back = read_control(raw_of(control_frame(control, version)), version)
    if not isinstance(control, Suspended):
        assert back == control
        return
    assert isinstance(back, Suspended)
    completions, signals = _all_leaves(control.awaiting)
    assert back.awaiting.combinator is Combinator.FIRST_COMPLETED
    assert back.awaiting.nested == ()
    assert set(back.awaiting.completions) == completions
    assert set(back.awaiting.signals) == signals


def _all_leaves(awaiting: Awaiting) -> tuple[set[int], set[int | str]]:
    completions, signals = set(awaiting.completions), set(awaiting.signals)
    for each in awaiting.nested:
        below = _all_leaves(each)
        completions |= below[0]
        signals |= below[1]
    return completions, signals


def test_a_proposal_asks_for_an_ack_from_version_7() -> None:
    flags = [raw_of(control_frame(ProposeRun(1, Value(b"")), v)).flags for v in VERSIONS]
    assert flags == [0, 0, 0x8000]


def test_the_value_of_a_proposal_is_bare_bytes() -> None:
    assert raw_of(control_frame(ProposeRun(1, Value(b"")), 6)).payload == b"\x08\x01\x72\x00"
    assert (
        raw_of(control_frame(ProposeRun(1, Failure(7, "")), 6)).payload
        == b"\x08\x01\x7a\x02\x08\x07"
    )


def test_the_behavior_goes_out_on_every_version() -> None:
    failed = Failed(500, "e", behavior=Behavior.PAUSE)
    for version in VERSIONS:
        assert read_control(raw_of(control_frame(failed, version)), version) == failed


def test_the_related_command_travels_as_its_frame_type() -> None:
    failed = Failed(500, "", related_command_index=0, related_command_type="run")
    payload = raw_of(control_frame(failed, 6)).payload
    assert pb.Error.FromString(payload).related_command_type == 1041
    unknown = Failed(500, "", related_command_type="dance")
    assert not pb.Error.FromString(raw_of(control_frame(unknown, 6)).payload).HasField(
        "related_command_type"
    )
    assert read(2, pb.Error(related_command_type=9_999).SerializeToString()) == Failed(0, "")


def test_a_delay_of_zero_is_a_delay() -> None:
    for delay_ms in (None, 0):
        failed = Failed(1, "", next_retry_delay_ms=delay_ms)
        assert read_control(raw_of(control_frame(failed, 6)), 6) == failed


def test_the_end_may_say_things_we_do_not_know() -> None:
    assert read(3, b"\x0a\x01x") == Ended()


MALFORMED: list[tuple[int, int, bytes, str]] = [
    (0x0005, 7, b"\x08\x01", "a value or a failure"),
    (0x0005, 7, b"\x7a\x05", "a protobuf message"),
    (0x0006, 7, b"", "what is awaited"),
    (0x0006, 6, b"\x0a\x00", "a frame of the version that is spoken"),
    (0x0006, 7, b"\x0a\x02\x08", "a protobuf message"),
    (0x0006, 7, b"\x0a\x02\x28\x05", "a combinator from 0 to 4"),
    (0x0006, 7, b"\x0a\x04\x22\x02\x28\x09", "a combinator from 0 to 4"),
    (0x0001, 7, b"", "what is awaited"),
    (0x0001, 7, b"\x0a\x01\x01", "what is awaited, as a tree"),
    (0x0001, 7, b"\x22\x00", "something to wait for"),
    (0x0001, 7, b"\x22\x02\x22\x00", "something to wait for"),
    (0x0001, 7, b"\x22\x03\x22\x01\x08", "a protobuf message"),
    (0x0001, 7, b"\x22\x03\x1a\x01\xff", "a protobuf message"),
    (0x0001, 6, b"", "something to wait for"),
    (0x0001, 5, b"\x22\x03\x0a\x01\x01", "something to wait for"),
    (0x0001, 6, b"\x1a\x01\xff", "a protobuf message"),
    (0x0002, 7, b"\x48\x03", "a behavior from 0 to 2"),
    (0x0002, 7, b"\x12\x01\xff", "a protobuf message"),
    (0x0003, 7, b"\x0a", "a protobuf message"),
    (0x0000, 7, b"", "a frame that a deployment may send"),
    (0x0004, 7, b"", "a frame that a deployment may send"),
    (0x0007, 7, b"\x08\x01", "a frame that a deployment may send"),
    (0x0008, 7, b"", "a frame that a deployment may send"),
    (0x03FF, 7, b"", "a frame that a deployment may send"),
    (0x0400, 7, b"\x72\x00", "a frame that a deployment may send"),
    (0x800C, 7, b"\x08\x01\x22\x00", "a frame that a deployment may send"),
    (0xFC00, 7, b"", "a frame that a deployment may send"),
    (0xFFFF, 7, b"", "a frame that a deployment may send"),
]


@pytest.mark.parametrize(("type", "version", "payload", "expected"), MALFORMED)
def test_what_breaks_the_protocol_is_refused(
    type: int, version: int, payload: bytes, expected: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(type, payload, version)
    message = str(caught.value)
    assert message.startswith("[RT0012] ")
    assert f"0x{type:04x}" in message
    assert f"expected {expected}" in message


@pytest.mark.parametrize(
    "control",
    [
        ProposeRun(-1, Value(b"")),
        ProposeRun(1, Failure(-5, "")),
        Failed(-1, ""),
        Failed(1, "\ud800"),
        Failed(1, "", next_retry_delay_ms=-1),
        Suspended(Awaiting(Combinator.UNKNOWN, (-1,)), 0),
        Suspended(Awaiting(Combinator.UNKNOWN, (), ("\ud800",)), 0),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_no_message_can_hold_is_refused(control: Control, version: int) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*: cannot be encoded: "):
        control_frame(control, version)


# ---- acks ---------------------------------------------------------------------------------------


@given(ids)
def test_an_ack_comes_back_as_it_went(completion_id: int) -> None:
    assert read_run_ack(raw_of(run_ack_frame(completion_id))) == completion_id


def test_another_frame_is_no_ack() -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*expected propose_run_completion_ack"):
        read_run_ack(RawFrame(FrameType.COMMAND_ACK, 0, b"\x08\x01"))
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] "):
        read_run_ack(RawFrame(FrameType.PROPOSE_RUN_COMPLETION_ACK, 0, b"\x08"))
