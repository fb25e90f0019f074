"""The frames of service protocol 9.1, byte for byte."""

import pytest

from perdure.journal.attempt import (
    Awaiting,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    Command,
    Completion,
    Failure,
    Input,
    InvocationId,
    Notification,
    Output,
    Run,
    Signal,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.schema import Handler, HandlerType, ServiceType
from perdure.journal.wire.commands import command_frame, read_command
from perdure.journal.wire.control import (
    Control,
    control_frame,
    read_control,
    read_run_ack,
    read_start,
    run_ack_frame,
    start_frame,
)
from perdure.journal.wire.frames import REQUESTED_ACK, FrameReader, RawFrame, frame
from perdure.journal.wire.notifications import notification_frame, read_notification

RAW_ID = bytes(range(1, 25))
ID = "inv_10GJfy0GGPIZ0JsmI2YhihwhbLzDth0Jvz"
PLAIN = Handler("S", "echo", HandlerType.SERVICE, ServiceType.SERVICE)

FIRST_START = Start(
    id=RAW_ID,
    attempt=1,
    handler=PLAIN,
    key="",
    entries=(Input((), b""),),
    state={},
    state_complete=False,
    random_seed=42,
)
KEYED_START = Start(
    id=RAW_ID,
    attempt=1,
    handler=PLAIN,
    key="k",
    entries=(Input((), b""),),
    state={"a": b"1"},
    state_complete=True,
    random_seed=42,
)
STARTS = [
    (
        FIRST_START,
        "00000000000000480a180102030405060708090a0b0c0d0e0f1011121314151617181226696e765f3130474a667930"
        "474750495a304a736d4932596869687768624c7a447468304a767a18012801482a",
    ),
    (
        KEYED_START,
        "00000000000000510a180102030405060708090a0b0c0d0e0f1011121314151617181226696e765f3130474a667930"
        "474750495a304a736d4932596869687768624c7a447468304a767a180122060a016112013132016b482a",
    ),
]
COMMANDS: list[tuple[Command, str]] = [
    (Input((("h1", "v1"),), b'"x"'), "04000000000000110a080a0268311202763172050a03227822"),
    (Input((), b""), "04000000000000027200"),
    (Run(1, "side"), "04110000000000085801620473696465"),
    (Output(Value(b'"x"')), "040100000000000772050a03227822"),
]
NOTIFICATIONS: list[tuple[Notification, str]] = [
    (Completion(1, Void()), "800c00000000000408012200"),
    (Completion(1, Void()), "800200000000000408012200"),
    (Completion(1, Value(b"")), "800200000000000408012a00"),
    (Completion(2, StateKeys(())), "800600000000000508028a0100"),
    (Completion(2, StateKeys(("a", "b"))), "800600000000000b08028a01060a01610a0162"),
    (
        Completion(1, InvocationId(ID)),
        "800e00000000002b0801820126696e765f3130474a667930474750495a304a736d4932596869687768624c7a447468"
        "304a767a",
    ),
    (Completion(2, Value(b'"x"')), "800d00000000000908022a050a03227822"),
    (Completion(2, Failure(409, "killed")), "800d00000000000f0802320b08990312066b696c6c6564"),
    (Completion(1, Value(b'"r"')), "801100000000000908012a050a03227222"),
    (Signal(1, Void()), "fbff00000000000410012200"),
    (Signal(17, Value(b'"v"')), "fbff00000000000910112a050a03227622"),
    (Signal("s", Value(b"1")), "fbff0000000000081a01732a030a0131"),
]
AWAITING = Awaiting(Combinator.FIRST_COMPLETED, (1,), (1,))
CONTROLS: list[tuple[Control, int, str]] = [
    (ProposeRun(1, Value(b'"r"')), 7, "000580000000000708017203227222"),
    (Suspended(AWAITING, 0), 6, "00010000000000060a0101120101"),
    (Suspended(AWAITING, 0), 7, "000100000000000a22080a01011201012801"),
    (Ended(), 6, "0003000000000000"),
    (Failed(500, "e", next_retry_delay_ms=50), 6, "000200000000000808f4031201654032"),
]
ACK = "00070000000000020801"


def only(hex_text: str) -> RawFrame:
    (raw,) = FrameReader(1 << 20).feed(bytes.fromhex(hex_text))
    return raw


def test_all_vectors_of_the_specification_are_here() -> None:
    assert len(STARTS) + len(COMMANDS) + len(NOTIFICATIONS) + len(CONTROLS) + 1 == 24


@pytest.mark.parametrize(("start", "expected"), STARTS)
def test_start(start: Start, expected: str) -> None:
    assert start_frame(start, 6).hex() == expected
    message = read_start(only(expected))
    assert (message.id, message.debug_id, message.known_entry_count) == (RAW_ID, ID, 1)
    assert (message.key, message.state) == (start.key, start.state)
    assert (message.partial_state, message.random_seed) == (not start.state_complete, 42)


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_command(command: Command, expected: str) -> None:
    assert command_frame(command).hex() == expected
    assert read_command(only(expected)) == command


@pytest.mark.parametrize(("notification", "expected"), NOTIFICATIONS)
@pytest.mark.parametrize("version", [5, 6, 7])
def test_notification(notification: Notification, expected: str, version: int) -> None:
    type = int(expected[:4], 16)
    assert notification_frame(notification, type, version).hex() == expected
    assert read_notification(only(expected)) == notification


@pytest.mark.parametrize(("control", "version", "expected"), CONTROLS)
def test_control(control: Control, version: int, expected: str) -> None:
    assert control_frame(control, version).hex() == expected
    assert read_control(only(expected), version) == control


def test_run_ack() -> None:
    assert run_ack_frame(1).hex() == ACK
    assert read_run_ack(only(ACK)) == 1


def test_the_flag_stands_between_type_and_length() -> None:
    assert frame(0x0005, bytes(11), REQUESTED_ACK)[:8].hex() == "000580000000000b"
