"""Our frames against the official SDK's own state machine: it reads what we write, we read what it writes.

The machine is the native core of the published package; it checks replayed commands field by field, so
what it accepts in a replay is what it meant.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from restate.vm import Failure as OfficialFailure
from restate.vm import SingleUnresolvedFuture, VMWrapper
from restate.vm import Suspended as OfficialSuspended

from perdure.journal.attempt import Awaiting, Combinator, Ended, ProposeRun, Suspended
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    InvocationId,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Verbatim,
    Void,
)
from perdure.journal.wire.commands import command_frame, is_command_type, read_command
from perdure.journal.wire.control import (
    Control,
    control_frame,
    read_control,
    run_ack_frame,
    start_frame,
)
from perdure.journal.wire.frames import FrameReader
from perdure.journal.wire.notifications import notification_frame
from perdure.journal.wire.versions import content_type
from tests.journal.wire.test_vectors import ID, KEYED_START, RAW_ID

FIRST = Input((("h1", "v1"), ("h1", "v2")), b'"in"')
VERSIONS = [5, 6, 7]


def begin(
    version: int, rest: bytes = b"", entry_count: int = 1, lazy: bool = False, **more: Any
) -> VMWrapper:
    """A machine that got the start and its entries, and gave its input away."""
    start = msgspec.structs.replace(
        KEYED_START, entries=(FIRST,) * entry_count, state_complete=not lazy, **more
    )
    vm = VMWrapper([("content-type", content_type(version))])
    vm.notify_input(start_frame(start, version) + command_frame(FIRST) + rest)
    assert vm.is_ready_to_execute()
    return vm


def written(vm: VMWrapper, version: int) -> list[Command | Verbatim | Control]:
    reader = FrameReader(1 << 20)
    raws = reader.feed(bytes(vm.take_output()))
    assert reader.is_between_frames
    return [
        read_command(raw) if is_command_type(raw.type) else read_control(raw, version)
        for raw in raws
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_reads_our_start_and_input(version: int) -> None:
    invocation = begin(version, scope="s", limit_key="l", idempotency_key="").sys_input()
    assert invocation.invocation_id == ID
    assert (invocation.key, invocation.input_buffer) == ("k", b'"in"')
    assert invocation.headers == [("h1", "v1"), ("h1", "v2")]
    if version >= 6:
        assert invocation.random_seed == 42
    v7 = ("s", "l", "") if version == 7 else (None, None, None)
    assert (invocation.scope, invocation.limit_key, invocation.idempotency_key) == v7


Script = tuple[str, Callable[[VMWrapper], object], Command, bool]
SCRIPTS: list[Script] = [
    ("set", lambda vm: vm.sys_set_state("a", b"2"), SetState("a", b"2"), False),
    ("set empty", lambda vm: vm.sys_set_state("", b""), SetState("", b""), False),
    ("named", lambda vm: vm.sys_set_state("a", b"2", "n"), SetState("a", b"2", "n"), False),
    ("clear", lambda vm: vm.sys_clear_state("a"), ClearState("a"), False),
    ("clear all", lambda vm: vm.sys_clear_all_state(), ClearAllState(), False),
    ("eager", lambda vm: vm.sys_get_state("a"), GetEagerState("a", b"1"), False),
    ("eager void", lambda vm: vm.sys_get_state("b"), GetEagerState("b", None), False),
    ("eager keys", lambda vm: vm.sys_get_state_keys(), GetEagerStateKeys(("a",)), False),
    ("lazy", lambda vm: vm.sys_get_state("b"), GetLazyState(1, "b"), True),
    ("lazy keys", lambda vm: vm.sys_get_state_keys(), GetLazyStateKeys(1), True),
    ("promise", lambda vm: vm.sys_get_promise("p"), GetPromise(1, "p"), False),
    ("peek", lambda vm: vm.sys_peek_promise("p"), PeekPromise(1, "p"), False),
    (
        "complete",
        lambda vm: vm.sys_complete_promise_success("p", b""),
        CompletePromise(1, "p", Value(b"")),
        False,
    ),
    (
        "complete badly",
        lambda vm: vm.sys_complete_promise_failure("p", OfficialFailure(409, "no")),
        CompletePromise(1, "p", Failure(409, "no")),
        False,
    ),
    (
        "call",
        lambda vm: vm.sys_call("S", "h", b"p", "k", None, [("b", "1"), ("a", "2")]),
        Call(1, 2, "S", "h", "k", b"p", (("b", "1"), ("a", "2"))),
        False,
    ),
    (
        "idempotent call",
        lambda vm: vm.sys_call("S", "h", b"", None, "i"),
        Call(1, 2, "S", "h", "", b"", (), "i"),
        False,
    ),
    (
        "send",
        lambda vm: vm.sys_send("S", "h", b"p", "k", None, "i", [("a", "")]),
        OneWayCall(1, "S", "h", "k", b"p", 0, (("a", ""),), "i"),
        False,
    ),
    ("cancel", lambda vm: vm.sys_cancel(ID), SendSignal(ID, 1, Void()), False),
    (
        "signal",
        lambda vm: vm.sys_resolve_signal(ID, "s", b"v"),
        SendSignal(ID, "s", Value(b"v")),
        False,
    ),
    (
        "bad signal",
        lambda vm: vm.sys_reject_signal(ID, "s", OfficialFailure(1, "m")),
        SendSignal(ID, "s", Failure(1, "m")),
        False,
    ),
    ("attach", lambda vm: vm.attach_invocation(ID), AttachInvocation(1, ById(ID)), False),
    (
        "awakeable",
        lambda vm: vm.sys_resolve_awakeable("sign_1x", b"v"),
        CompleteAwakeable("sign_1x", Value(b"v")),
        False,
    ),
    (
        "bad awakeable",
        lambda vm: vm.sys_reject_awakeable("sign_1x", OfficialFailure(1, "m")),
        CompleteAwakeable("sign_1x", Failure(1, "m")),
        False,
    ),
    ("run", lambda vm: vm.sys_run("side"), Run(1, "side"), False),
    ("output", lambda vm: vm.sys_write_output_success(b""), Output(Value(b"")), False),
    (
        "failure",
        lambda vm: vm.sys_write_output_failure(OfficialFailure(409, "no")),
        Output(Failure(409, "no")),
        False,
    ),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "call", "expected", "lazy"), SCRIPTS, ids=[s[0] for s in SCRIPTS])
def test_we_read_its_commands_and_write_the_same_bytes(
    name: str, call: Callable[[VMWrapper], object], expected: Command, lazy: bool, version: int
) -> None:
    vm = begin(version, lazy=lazy)
    vm.sys_input()
    vm.take_output()
    call(vm)
    assert written(vm, version) == [expected]  # not Verbatim: its bytes are ours

    replayed = begin(version, command_frame(expected), 2, lazy)
    replayed.sys_input()
    call(replayed)
    assert written(replayed, version) == []
    assert not replayed.is_replaying()


def test_scopes_come_with_version_7() -> None:
    vm = begin(7)
    vm.sys_input()
    vm.sys_call("S", "h", b"", "k", "i", None, "s", "l")
    vm.sys_send("S", "h", b"", "k", None, "i", None, "s", "l")
    assert written(vm, 7) == [
        Call(1, 2, "S", "h", "k", b"", (), "i", "s", "l"),
        OneWayCall(3, "S", "h", "k", b"", 0, (), "i", "s", "l"),
    ]


def test_failures_have_metadata_from_version_6() -> None:
    for version in (6, 7):
        vm = begin(version)
        vm.sys_input()
        vm.sys_write_output_failure(OfficialFailure(409, "no", metadata={"why": "so"}))
        vm.sys_end()  # type: ignore[no-untyped-call]
        assert written(vm, version) == [Output(Failure(409, "no", {"why": "so"})), Ended()]


NOTIFICATIONS: list[tuple[Callable[[VMWrapper], int], Entry, int, object]] = [
    (lambda vm: vm.sys_get_state("b"), Completion(1, Void()), 0x8002, None),
    (lambda vm: vm.sys_get_state("b"), Completion(1, Value(b"")), 0x8002, b""),
    (lambda vm: vm.sys_get_state_keys(), Completion(1, StateKeys(("a", "b"))), 0x8006, ["a", "b"]),
    (lambda vm: vm.sys_get_promise("p"), Completion(1, Value(b"v")), 0x8009, b"v"),
    (lambda vm: vm.sys_peek_promise("p"), Completion(1, Void()), 0x800A, None),
    (lambda vm: vm.sys_sleep(5), Completion(1, Void()), 0x800C, None),
    (
        lambda vm: vm.sys_call("S", "h", b"").invocation_id_handle,
        Completion(1, InvocationId(ID)),
        0x800E,
        ID,
    ),
    (
        lambda vm: vm.sys_call("S", "h", b"").result_handle,
        Completion(2, Failure(409, "killed")),
        0x800D,
        OfficialFailure(409, "killed"),
    ),
    (lambda vm: vm.sys_signal("s"), Signal("s", Value(b"1")), 0, b"1"),
    (lambda vm: vm.sys_awakeable()[1], Signal(17, Value(b"1")), 0, b"1"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("ask", "answer", "type", "expected"), NOTIFICATIONS)
def test_it_reads_our_notifications(
    ask: Callable[[VMWrapper], int], answer: Any, type: int, expected: object, version: int
) -> None:
    vm = begin(version, lazy=True)
    vm.sys_input()
    handle = ask(vm)
    vm.notify_input(notification_frame(answer, type, version))
    vm.do_progress(SingleUnresolvedFuture(handle))
    got = vm.take_notification(handle)
    if isinstance(got, OfficialFailure):
        got.metadata = None
    assert got == expected


def test_its_awakeable_is_the_signal_that_follows_the_id_we_sent() -> None:
    vm = begin(7)
    vm.sys_input()
    assert bytes(range(1, 25)) == RAW_ID
    assert vm.sys_awakeable()[0] == "sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ"


@pytest.mark.parametrize("version", VERSIONS)
def test_it_proposes_runs_and_takes_our_acks(version: int) -> None:
    vm = begin(version)
    vm.sys_input()
    handle = vm.sys_run("side").handle
    vm.do_progress(SingleUnresolvedFuture(handle))
    vm.propose_run_completion_success(handle, b"r")
    *_, proposal = written(vm, version)
    assert proposal == ProposeRun(1, Value(b"r"))
    if version == 7:
        vm.notify_input(run_ack_frame(1))
    else:
        vm.notify_input(notification_frame(Completion(1, Value(b"r")), 0x8011, version))
    vm.do_progress(SingleUnresolvedFuture(handle))
    assert vm.take_notification(handle) == b"r"


def test_we_read_its_moments() -> None:
    vm = begin(6)
    vm.sys_input()
    vm.sys_sleep(1_000, "nap")
    vm.sys_send("S", "h", b"", None, 5_000)
    sleep, send = written(vm, 6)
    assert sleep == Sleep(1, sleep.wake_up_at_ms, "nap")  # type: ignore[union-attr]
    assert send == OneWayCall(2, "S", "h", "", b"", send.invoke_at_ms)  # type: ignore[union-attr]


@pytest.mark.parametrize("version", VERSIONS)
def test_we_write_its_suspension(version: int) -> None:
    vm = begin(version)
    vm.sys_input()
    handle = vm.sys_get_promise("p")
    vm.take_output()
    vm.notify_input_closed()  # type: ignore[no-untyped-call]
    assert isinstance(vm.do_progress(SingleUnresolvedFuture(handle)), OfficialSuspended)
    data = bytes(vm.take_output())
    (raw,) = FrameReader(1 << 20).feed(data)
    suspended = read_control(raw, version)
    assert suspended == Suspended(Awaiting(Combinator.FIRST_COMPLETED, (1,), (1,)), 0)
    assert control_frame(suspended, version) == data
