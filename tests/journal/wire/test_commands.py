import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.journal.entries import (
    AttachInvocation,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Call,
    ClearState,
    Command,
    CompleteAwakeable,
    Failure,
    GetEagerState,
    Input,
    OneWayCall,
    Output,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Value,
    Verbatim,
    Void,
    type_name,
)
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.commands import (
    command_frame,
    completion_types,
    is_command_type,
    read_command,
    tag_of_type,
    type_of_tag,
)
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame
from tests.journal.wire.strategies import COMMANDS, commands

ALL = typing.get_args(Command)
TYPES = [each for each in FrameType if is_command_type(each)]


def raw_of(data: bytes) -> RawFrame:
    (raw,) = FrameReader(1 << 20).feed(data)
    return raw


def read(type: int, payload: bytes) -> Command | Verbatim:
    return read_command(RawFrame(type, 0, payload))


def test_every_command_has_a_strategy_and_a_type() -> None:
    assert set(COMMANDS) == set(ALL)
    assert len(TYPES) == len(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_a_command_comes_back_as_it_went(kind: type) -> None:
    @settings(max_examples=50)
    @given(COMMANDS[kind])
    def comes_back(command: Command) -> None:
        raw = raw_of(command_frame(command))
        assert raw.flags == 0
        assert tag_of_type(raw.type) == type_name(command)
        assert read_command(raw) == command

    comes_back()


@given(commands, st.integers(50, 1_000), st.binary(max_size=20))
def test_a_field_nobody_knows_is_kept_to_the_byte(
    command: Command, field: int, content: bytes
) -> None:
    raw = raw_of(command_frame(command))
    tag = field << 3 | 2
    unknown = bytes([tag & 0x7F | 0x80, tag >> 7, len(content)]) + content
    payload = raw.payload + unknown
    verbatim = read(raw.type, payload)
    assert verbatim == Verbatim(command, payload)
    assert raw_of(command_frame(verbatim)) == RawFrame(raw.type, 0, payload)


def test_what_says_the_same_in_other_bytes_is_kept_to_the_byte() -> None:
    run = Run(1, "side")
    assert read(0x0411, bytes.fromhex("5801620473696465")) == run
    for other in (
        "6204736964655801",  # the fields the other way round
        "588100620473696465",  # a number longer than it has to be
        "62027878620473696465" + "5801",  # a name that is overwritten
    ):
        wire = bytes.fromhex(other)
        assert read(0x0411, wire) == Verbatim(run, wire)


def test_an_empty_name_that_is_there_is_kept() -> None:
    assert read(0x0411, b"\x58\x01\x62\x00") == Verbatim(Run(1), b"\x58\x01\x62\x00")


def test_a_metadata_key_that_comes_twice_is_kept() -> None:
    pairs = [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]
    wire = pb.OutputCommand(failure=pb.Failure(code=1, metadata=pairs)).SerializeToString()
    assert read(0x0401, wire) == Verbatim(Output(Failure(1, "", {"a": "2"})), wire)


def test_absent_and_empty_are_told_apart() -> None:
    for absent, empty in (
        (Call(1, 2, "S", "h", "k", b""), Call(1, 2, "S", "h", "k", b"", (), "", "", "")),
        (OneWayCall(1, "S", "h", "", b""), OneWayCall(1, "S", "h", "", b"", 0, (), "", "", "")),
        (
            AttachInvocation(1, ByIdempotencyKey("S", None, "h", "i")),
            AttachInvocation(1, ByIdempotencyKey("S", "", "h", "i", "")),
        ),
        (AttachInvocation(1, ByWorkflow("S", "k")), AttachInvocation(1, ByWorkflow("S", "k", ""))),
        (GetEagerState("k", None), GetEagerState("k", b"")),
        (SendSignal("inv", "", Void()), SendSignal("inv", "", Value(b""))),
        (SendSignal("inv", "", Void()), SendSignal("inv", 0, Void())),
    ):
        frames = command_frame(absent), command_frame(empty)
        assert frames[0] != frames[1]
        assert [read_command(raw_of(each)) for each in frames] == [absent, empty]


def test_headers_keep_their_order_and_their_repetitions() -> None:
    headers = (("b", "1"), ("a", "2"), ("b", "1"), ("b", "0"))
    for command in (Input(headers, b""), Call(1, 2, "S", "h", "", b"", headers)):
        assert read_command(raw_of(command_frame(command))) == command


def test_the_flag_of_a_command_changes_nothing() -> None:
    assert read_command(RawFrame(0x0411, 0x8000, b"\x58\x01")) == Run(1)


MISSING = [
    (FrameType.INPUT, pb.InputCommand(headers=[{"key": "a"}]), "a value"),
    (FrameType.OUTPUT, pb.OutputCommand(name="n"), "a value or a failure"),
    (FrameType.SET_STATE, pb.SetStateCommand(key=b"k"), "a value"),
    (FrameType.GET_EAGER_STATE, pb.GetEagerStateCommand(key=b"k"), "a value or void"),
    (FrameType.GET_EAGER_STATE_KEYS, pb.GetEagerStateKeysCommand(), "the state's keys"),
    (FrameType.COMPLETE_PROMISE, pb.CompletePromiseCommand(key="k"), "a value or a failure"),
    (FrameType.SEND_SIGNAL, pb.SendSignalCommand(void={}), "the signal's index or name"),
    (FrameType.SEND_SIGNAL, pb.SendSignalCommand(idx=1), "void, a value or a failure"),
    (FrameType.ATTACH_INVOCATION, pb.AttachCommand(), "an invocation's id or target"),
    (FrameType.GET_INVOCATION_OUTPUT, pb.AttachCommand(), "an invocation's id or target"),
    (FrameType.COMPLETE_AWAKEABLE, pb.CompleteAwakeableCommand(), "a value or a failure"),
]


@pytest.mark.parametrize(("type", "message", "expected"), MISSING)
def test_what_has_no_default_must_be_there(
    type: FrameType, message: pb.InputCommand, expected: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(type, message.SerializeToString())
    assert str(caught.value).startswith(
        f"[RT0012] {type.name.lower()} (0x{type:04x}): expected {expected}"
    )


@pytest.mark.parametrize("type", [0x0402, 0x0403, 0x0404, 0x0407])
def test_a_state_key_is_text(type: int) -> None:
    payload = b"\x0a\x01\xff\x1a\x00" if type == 0x0403 else b"\x0a\x01\xff\x6a\x00"
    with pytest.raises(
        ProtocolError, match=r"\[RT0012\] .*: expected a state key in UTF-8, but b'\\xff'"
    ):
        read(type, payload)


def test_listed_state_keys_are_text() -> None:
    wire = pb.GetEagerStateKeysCommand(value=pb.StateKeys(keys=[b"a", b"\xc3"]))
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] get_eager_state_keys"):
        read(0x0408, wire.SerializeToString())


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a",  # cut after a tag
        b"\x0a\x05abc",  # shorter than it says
        b"\x07",  # a wire type that does not exist
        b"\x00\x00",  # field number 0
        b"\xff" * 12,  # a number without an end
    ],
)
def test_what_is_no_message_is_refused(type: FrameType, payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] \w+ \(0x04..\): expected "):
        read(type, payload)


def test_a_name_is_text() -> None:
    for type in TYPES[1:]:  # an Input has none, and what is unknown may be anything
        with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*expected a protobuf message"):
            read(type, b"\x62\x01\xff")


@pytest.mark.parametrize("type", [0x040F, 0x0415, 0x7FFF, 0x0000, 0x8011, 0xFBFF, 0xFC00])
def test_a_type_that_is_no_command_is_refused(type: int) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*expected a command"):
        read(type, b"")


@pytest.mark.parametrize(
    "command",
    [
        Run(-1),
        Run(2**32),
        Run(2**80),
        Sleep(1, -1),
        Sleep(1, 2**64),
        Output(Failure(-1, "")),
        ClearState("\ud800"),
        Run(1, "\ud800"),
        CompleteAwakeable("\udfff", Value(b"")),
        AttachInvocation(1, ById("\ud800")),
        SetState("\ud800", b""),
    ],
)
def test_what_no_message_can_hold_is_refused(command: Command) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*: cannot be encoded: "):
        command_frame(command)


def test_the_command_range_ends_where_notifications_begin() -> None:
    assert [is_command_type(each) for each in (0x3FF, 0x400, 0x7FFF, 0x8000)] == [
        *(False, True, True, False)
    ]


def test_tags_and_types_lead_to_one_another() -> None:
    assert type_of_tag("run") == 0x0411
    assert tag_of_type(0x0411) == "run"
    for type in TYPES:
        assert type_of_tag(tag_of_type(type)) == type
    assert type_of_tag("verbatim") is None
    assert type_of_tag("") is None
    assert tag_of_type(0x8011) == ""


# Service protocol 3.5, the last column.
ANSWERS = {
    "get_lazy_state": 0x8002,
    "get_lazy_state_keys": 0x8006,
    "get_promise": 0x8009,
    "peek_promise": 0x800A,
    "complete_promise": 0x800B,
    "sleep": 0x800C,
    "run": 0x8011,
    "attach_invocation": 0x8012,
    "get_invocation_output": 0x8013,
}


@given(commands)
def test_a_command_is_answered_by_the_notifications_of_its_kind(command: Command) -> None:
    answers = completion_types(command)
    if isinstance(command, Call):
        assert answers == ((command.id_completion_id, 0x800E), (command.completion_id, 0x800D))
    elif isinstance(command, OneWayCall):
        assert answers == ((command.id_completion_id, 0x800E),)
    elif type_name(command) in ANSWERS:
        answer = ANSWERS[type_name(command)]
        assert answers == ((command.completion_id, answer),)  # type: ignore[union-attr]
    else:
        assert answers == ()
