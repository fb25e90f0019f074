"""Stored entries: the bytes of every type, for ever. A change here is a change of the format.

A failing test means that journals written by an earlier release can no longer be read. Add a struct,
or a last field with a default; never change what is here (docs/journal-format.md, Rows).
"""

from typing import get_args

import msgspec
import pytest

from perdure.journal import entries
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Call,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
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
    decode_segment,
    encode,
    encode_segment,
    is_command,
    segment_at_ms,
    type_name,
)

GOLDEN: list[tuple[Entry, str]] = [
    (Input((("h", "v"),), b"x"), "93a5696e7075749192a168a176c40178"),
    (Output(Value(b"x"), "n"), "93a66f757470757492a576616c7565c40178a16e"),
    (
        Output(Failure(500, "no", {"k": "v"}, "trace")),
        "93a66f757470757495a76661696c757265cd01f4a26e6f81a16ba176a57472616365a0",
    ),
    (GetLazyState(1, "k", "n"), "94ae6765745f6c617a795f737461746501a16ba16e"),
    (GetLazyStateKeys(1, "n"), "93b36765745f6c617a795f73746174655f6b65797301a16e"),
    (GetEagerState("k", b"x", "n"), "94af6765745f65616765725f7374617465a16bc40178a16e"),
    (GetEagerState("k", None), "94af6765745f65616765725f7374617465a16bc0a0"),
    (
        GetEagerStateKeys(("a", "b"), "n"),
        "93b46765745f65616765725f73746174655f6b65797392a161a162a16e",
    ),
    (SetState("k", b"x", "n"), "94a97365745f7374617465a16bc40178a16e"),
    (ClearState("k", "n"), "93ab636c6561725f7374617465a16ba16e"),
    (ClearAllState("n"), "92af636c6561725f616c6c5f7374617465a16e"),
    (GetPromise(1, "k", "n"), "94ab6765745f70726f6d69736501a16ba16e"),
    (PeekPromise(1, "k", "n"), "94ac7065656b5f70726f6d69736501a16ba16e"),
    (
        CompletePromise(1, "k", Value(b"x"), "n"),
        "95b0636f6d706c6574655f70726f6d69736501a16b92a576616c7565c40178a16e",
    ),
    (Sleep(1, 1_700_000_000_000, "n"), "94a5736c65657001cf0000018bcfe56800a16e"),
    (
        Call(1, 2, "S", "h", "k", b"x", (("h", "v"),), "i", "s", "l", "n"),
        "9ca463616c6c0102a153a168a16bc401789192a168a176a169a173a16ca16e",
    ),
    (
        OneWayCall(1, "S", "h", "k", b"x", 1_700_000_000_000, (("h", "v"),), "i", "s", "l", "n"),
        "9cac6f6e655f7761795f63616c6c01a153a168a16bc40178cf0000018bcfe568009192a168a176a169a173a16ca16e",
    ),
    (
        SendSignal("inv_1", 17, Void(), "n"),
        "95ab73656e645f7369676e616ca5696e765f311191a4766f6964a16e",
    ),
    (
        SendSignal("inv_1", "go", Value(b"x")),
        "95ab73656e645f7369676e616ca5696e765f31a2676f92a576616c7565c40178a0",
    ),
    (Run(1, "n"), "93a372756e01a16e"),
    (
        AttachInvocation(1, ById("inv_1"), "n"),
        "94b16174746163685f696e766f636174696f6e0192a562795f6964a5696e765f31a16e",
    ),
    (
        AttachInvocation(1, ByIdempotencyKey("S", "k", "h", "i", "s")),
        "94b16174746163685f696e766f636174696f6e0196b262795f6964656d706f74656e63795f6b6579a153a16ba168a169a173a0",
    ),
    (
        GetInvocationOutput(1, ByWorkflow("S", "k", "s"), "n"),
        "94b56765745f696e766f636174696f6e5f6f75747075740194ab62795f776f726b666c6f77a153a16ba173a16e",
    ),
    (
        CompleteAwakeable("sign_1", Value(b"x"), "n"),
        "94b2636f6d706c6574655f6177616b6561626c65a67369676e5f3192a576616c7565c40178a16e",
    ),
    (
        Verbatim(ClearAllState(), b"\x08\x01"),
        "93a8766572626174696d92af636c6561725f616c6c5f7374617465a0c4020801",
    ),
    (Completion(1, Void()), "93aa636f6d706c6574696f6e0191a4766f6964"),
    (Completion(1, Value(b"x")), "93aa636f6d706c6574696f6e0192a576616c7565c40178"),
    (
        Completion(1, Failure(500, "no")),
        "93aa636f6d706c6574696f6e0195a76661696c757265cd01f4a26e6f80a0",
    ),
    (
        Completion(1, StateKeys(("a", "b"))),
        "93aa636f6d706c6574696f6e0192aa73746174655f6b65797392a161a162",
    ),
    (
        Completion(1, InvocationId("inv_1")),
        "93aa636f6d706c6574696f6e0192ad696e766f636174696f6e5f6964a5696e765f31",
    ),
    (Signal(1, Void()), "93a67369676e616c0191a4766f6964"),
    (Signal("go", Failure(500, "no")), "93a67369676e616ca2676f95a76661696c757265cd01f4a26e6f80a0"),
]


@pytest.mark.parametrize(("entry", "stored"), GOLDEN, ids=lambda x: None)
def test_an_entry_has_these_bytes_for_ever(entry: Entry, stored: str) -> None:
    assert encode(entry).hex() == stored
    assert decode_segment(b"\x91" + bytes.fromhex(stored)) == (entry,)


def test_every_type_of_entry_has_its_bytes_written_down() -> None:
    assert {type(entry) for entry, _ in GOLDEN} == set(get_args(entries.Entry))


def test_a_segment_is_an_array_of_entries() -> None:
    segment = encode([entry for entry, _ in GOLDEN])
    assert segment[:3].hex() == f"dc{len(GOLDEN):04x}"
    assert segment[3:].hex() == "".join(stored for _, stored in GOLDEN)
    assert decode_segment(segment) == tuple(entry for entry, _ in GOLDEN)


@pytest.mark.parametrize(
    ("shorter", "entry"),
    [
        (["run", 1], Run(1)),
        (["sleep", 1, 5], Sleep(1, 5)),
        (["set_state", "k", b"x"], SetState("k", b"x")),
        (["call", 1, 2, "S", "h", "k", b"x"], Call(1, 2, "S", "h", "k", b"x")),
        (["one_way_call", 1, "S", "h", "k", b"x"], OneWayCall(1, "S", "h", "k", b"x")),
        (["completion", 1, ["failure", 500, "no"]], Completion(1, Failure(500, "no"))),
    ],
)
def test_an_entry_from_before_a_field_was_added_is_read(shorter: object, entry: Entry) -> None:
    assert decode_segment(msgspec.msgpack.encode([shorter])) == (entry,)


def test_an_entry_with_a_field_from_a_later_release_is_read_by_an_earlier_one() -> None:
    longer = msgspec.msgpack.encode([["run", 1, "n", "what is this?"]])
    assert decode_segment(longer) == (Run(1, "n"),)


@pytest.mark.parametrize(
    "damaged", [["unknown", 1], ["run"], ["run", "1"], ["completion", 1, ["unknown"]], [], 5]
)
def test_what_is_no_entry_is_refused(damaged: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_segment(msgspec.msgpack.encode([damaged]))


def test_commands_are_told_from_notifications() -> None:
    notifications = {type(entry) for entry, _ in GOLDEN if not is_command(entry)}
    assert notifications == {Completion, Signal}


def test_the_name_of_a_type_is_its_tag() -> None:
    assert type_name(Run(1)) == "run"
    assert type_name(Completion(1, Void())) == "completion"


def test_a_segment_carries_the_moment_of_its_commit() -> None:
    entries = (Run(1, "n"),)
    segment = encode_segment(entries, 1_700_000_000_000)
    assert decode_segment(segment) == entries
    assert segment_at_ms(segment) == 1_700_000_000_000


def test_a_segment_of_an_older_release_has_no_moment() -> None:
    old = msgspec.msgpack.encode([Run(1, "n")])
    assert decode_segment(old) == (Run(1, "n"),)
    assert segment_at_ms(old) is None
