import pytest
from hypothesis import given

from perdure.journal.entries import (
    Completion,
    Failure,
    InvocationId,
    Notification,
    Signal,
    Value,
    Void,
)
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame
from perdure.journal.wire.notifications import (
    is_notification_type,
    notification_frame,
    read_notification,
)
from tests.journal.wire.strategies import COMPLETIONS, typed_notifications

TYPES = [each for each in FrameType if is_notification_type(each)]
RESULTS = {
    "void": pb.Notification(void={}),
    "value": pb.Notification(value={}),
    "failure": pb.Notification(failure={}),
    "invocation_id": pb.Notification(invocation_id=""),
    "state_keys": pb.Notification(state_keys={}),
}
# Service protocol 3.6, the last column.
ALLOWED = {
    0x8002: "void value",
    0x8006: "state_keys",
    0x8009: "value failure",
    0x800A: "void value failure",
    0x800B: "void failure",
    0x800C: "void",
    0x800D: "value failure",
    0x800E: "invocation_id",
    0x8011: "value failure",
    0x8012: "value failure",
    0x8013: "void value failure",
    0xFBFF: "void value failure",
}


def raw_of(data: bytes) -> RawFrame:
    (raw,) = FrameReader(1 << 20).feed(data)
    return raw


def read(type: int, message: pb.Notification) -> Notification:
    return read_notification(RawFrame(type, 0, message.SerializeToString()))


def test_every_type_has_a_strategy() -> None:
    assert set(TYPES) == {*COMPLETIONS, FrameType.SIGNAL}


@given(typed_notifications)
def test_a_notification_comes_back_as_it_went(given: tuple[Notification, FrameType]) -> None:
    notification, type = given
    for version in (6, 7):
        raw = raw_of(notification_frame(notification, type, version))
        assert (raw.type, raw.flags) == (type, 0)
        assert read_notification(raw) == notification


def test_a_signal_has_its_own_type() -> None:
    assert raw_of(notification_frame(Signal(1, Void()), 0x8011, 7)).type == 0xFBFF


def test_metadata_of_failures_begins_with_version_6() -> None:
    failed = Completion(1, Failure(409, "no", {"why": "so"}))
    assert read_notification(raw_of(notification_frame(failed, 0x8011, 6))) == failed
    below = read_notification(raw_of(notification_frame(failed, 0x8011, 5)))
    assert below == Completion(1, Failure(409, "no"))


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("type", TYPES)
def test_a_type_has_only_results_of_its_own(type: FrameType, result: str) -> None:
    message = pb.Notification()
    message.CopyFrom(RESULTS[result])
    if type is FrameType.SIGNAL:
        message.signal_idx = 0
    else:
        message.completion_id = 0
    if result in ALLOWED[type].split():
        assert read(type, message)
        return
    with pytest.raises(
        ProtocolError, match=rf"^\[RT0012\] .*expected .*but its result is {result}"
    ):
        read(type, message)


@pytest.mark.parametrize("type", TYPES)
def test_a_result_must_be_there(type: FrameType) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*but it has no result"):
        read(type, pb.Notification(completion_id=1))


@pytest.mark.parametrize(
    ("type", "message"),
    [
        (0x800C, pb.Notification(void={})),
        (0x800C, pb.Notification(void={}, signal_idx=1)),
        (0x800C, pb.Notification(void={}, signal_name="s")),
        (0xFBFF, pb.Notification(void={})),
        (0xFBFF, pb.Notification(void={}, completion_id=1)),
    ],
)
def test_the_id_must_be_of_the_right_kind(type: int, message: pb.Notification) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*but its id is "):
        read(type, message)


def test_state_keys_are_text() -> None:
    with pytest.raises(ProtocolError, match=r"expected state keys in UTF-8"):
        read(0x8006, pb.Notification(completion_id=1, state_keys=pb.StateKeys(keys=[b"\xff"])))


@pytest.mark.parametrize("type", [0x8000, 0x8003, 0x8010, 0xFBFE, 0xFC00, 0x0411, 0x0003])
def test_a_type_that_is_no_notification_is_refused(type: int) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*expected a notification"):
        read(type, pb.Notification(completion_id=1, void={}))


@pytest.mark.parametrize("type", TYPES)
def test_what_is_no_message_is_refused(type: FrameType) -> None:
    for payload in (b"\x2a", b"\x2a\x05", b"\x1a\x01\xff", b"\x82\x01\x01\xff", b"\xff" * 12):
        with pytest.raises(ProtocolError, match=r"^\[RT0012\] "):
            read_notification(RawFrame(type, 0, payload))


def test_fields_nobody_knows_are_passed_over() -> None:
    raw = RawFrame(0x800C, 0, bytes.fromhex("08012200") + b"\xf2\x06\x01x")
    assert read_notification(raw) == Completion(1, Void())


@pytest.mark.parametrize(
    "notification",
    [
        Completion(-1, Void()),
        Completion(2**32, Value(b"")),
        Completion(1, Failure(2**40, "")),
        Completion(1, InvocationId("\ud800")),
        Signal("\ud800", Void()),
        Signal(2**70, Void()),
    ],
)
def test_what_no_message_can_hold_is_refused(notification: Notification) -> None:
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*: cannot be encoded: "):
        notification_frame(notification, 0x8011, 7)
