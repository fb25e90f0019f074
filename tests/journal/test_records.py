"""Stored records: the bytes of every status, invocation, promise and inbox entry, for ever.

As with entries: add a struct, or a last field with a default; never change what is here.
"""

from typing import Any, get_args

import msgspec
import pytest

from perdure.journal import records
from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.entries import Value
from perdure.journal.records import (
    BackingOff,
    Completed,
    FailureNote,
    Inboxed,
    Invocation,
    Paused,
    Promise,
    Queued,
    Running,
    Scheduled,
    StatePatch,
    Suspended,
    Waiter,
    decode_inbox_entry,
    decode_invocation,
    decode_promise,
    encode,
)
from perdure.journal.schema import HandlerType

ID = bytes(range(24))

STATUSES: list[tuple[records.Status, str]] = [
    (Scheduled(1_700_000_000_000), "92a97363686564756c6564cf0000018bcfe56800"),
    (Inboxed(), "91a7696e626f786564"),
    (Running(), "91a772756e6e696e67"),
    (BackingOff(1_700_000_000_000), "92ab6261636b696e675f6f6666cf0000018bcfe56800"),
    (
        Suspended(
            Awaiting(
                Combinator.FIRST_COMPLETED,
                (1,),
                (1, "go"),
                (Awaiting(Combinator.ALL_COMPLETED, (2, 3)),),
            ),
            4,
        ),
        "93a973757370656e646564940191019201a2676f919402920203909004",
    ),
    (Paused("why"), "92a6706175736564a3776879"),
    (
        Completed(Value(b"x"), 1_700_000_000_000, 1_700_086_400_000),
        "94a9636f6d706c6574656492a576616c7565c40178cf0000018bcfe56800cf0000018bd50bc400",
    ),
]

YOUNG = Invocation("Counter", "add", "alice", HandlerType.EXCLUSIVE, Running(), 1, 2, 3, "ingress")
YOUNG_HEX = (
    "dc001ca7436f756e746572a3616464a5616c696365a94578636c757369766591a772756e6e696e670102"
    "03a7696e67726573730101000090c0c000000000c0c0c0a000c0c000"
)
OLD = Invocation(
    "Counter",
    "add",
    "alice",
    HandlerType.EXCLUSIVE,
    Running(),
    1,
    2,
    3,
    "ingress",
    4,
    5,
    6,
    7,
    (Waiter(ID, 8, 9),),
    "i",
    10,
    11,
    12,
    13,
    14,
    FailureNote(500, "no", "trace", 1, "step", "run"),
    "s",
    "l",
    "dp_1",
    6,
    ID,
    "00-t-s-01",
    15,
)
OLD_HEX = (
    "dc001ca7436f756e746572a3616464a5616c696365a94578636c757369766591a772756e6e696e670102"
    "03a7696e6772657373040506079193c418000102030405060708090a0b0c0d0e0f101112131415161708"
    "09a1690a0b0c0d0e96cd01f4a26e6fa5747261636501a473746570a372756ea173a16ca46470"
    "5f3106c418000102030405060708090a0b0c0d0e0f1011121314151617a930302d742d732d30310f"
)

PROMISES: list[tuple[Promise, str]] = [
    (Promise(), "92c090"),
    (Promise(Value(b"x")), "9292a576616c7565c4017890"),
    (
        Promise(None, (Waiter(ID, 1, 2),)),
        "92c09193c418000102030405060708090a0b0c0d0e0f10111213141516170102",
    ),
]
INBOX_ENTRIES: list[tuple[records.InboxEntry, str]] = [
    (Queued(ID), "92a6717565756564c418000102030405060708090a0b0c0d0e0f1011121314151617"),
    (StatePatch({"n": b"1"}, "v"), "93ab73746174655f706174636881a16ec40131a176"),
    (StatePatch({}, None), "93ab73746174655f706174636880c0"),
]


@pytest.mark.parametrize(("status", "stored"), STATUSES, ids=lambda x: None)
def test_a_status_has_these_bytes_for_ever(status: records.Status, stored: str) -> None:
    assert encode(status).hex() == stored
    invocation = msgspec.structs.replace(YOUNG, status=status)
    assert decode_invocation(encode(invocation)) == invocation


def test_every_status_has_its_bytes_written_down() -> None:
    assert {type(status) for status, _ in STATUSES} == set(get_args(records.Status))


@pytest.mark.parametrize(("invocation", "stored"), [(YOUNG, YOUNG_HEX), (OLD, OLD_HEX)])
def test_an_invocation_has_these_bytes_for_ever(invocation: Invocation, stored: str) -> None:
    assert encode(invocation).hex() == stored
    assert decode_invocation(bytes.fromhex(stored)) == invocation


def test_an_invocation_of_before_there_was_a_keep_is_read() -> None:
    older = "dc001b" + YOUNG_HEX.removeprefix("dc001c").removesuffix("00")
    assert decode_invocation(bytes.fromhex(older)) == YOUNG


def test_every_field_of_an_invocation_is_in_the_written_bytes() -> None:
    differing = [
        f for f in Invocation.__struct_fields__[9:] if getattr(OLD, f) == getattr(YOUNG, f)
    ]
    assert differing == []


@pytest.mark.parametrize("length", range(9, len(Invocation.__struct_fields__)))
def test_an_invocation_from_before_a_field_was_added_is_read(length: int) -> None:
    stored: list[Any] = msgspec.msgpack.decode(bytes.fromhex(OLD_HEX))
    read = decode_invocation(msgspec.msgpack.encode(stored[:length]))
    for index, field in enumerate(Invocation.__struct_fields__):
        assert getattr(read, field) == getattr(OLD if index < length else YOUNG, field)


@pytest.mark.parametrize(("promise", "stored"), PROMISES)
def test_a_promise_has_these_bytes_for_ever(promise: Promise, stored: str) -> None:
    assert encode(promise).hex() == stored
    assert decode_promise(bytes.fromhex(stored)) == promise


@pytest.mark.parametrize(("entry", "stored"), INBOX_ENTRIES)
def test_an_inbox_entry_has_these_bytes_for_ever(entry: records.InboxEntry, stored: str) -> None:
    assert encode(entry).hex() == stored
    assert decode_inbox_entry(bytes.fromhex(stored)) == entry


def test_handler_types_have_these_names_for_ever() -> None:
    assert [t.value for t in HandlerType] == ["Service", "Exclusive", "Shared", "Workflow"]


def test_combinators_have_the_numbers_of_the_protocol() -> None:
    assert [c.value for c in Combinator] == [0, 1, 2, 3, 4]


def test_an_unknown_status_is_refused() -> None:
    stored: list[Any] = msgspec.msgpack.decode(bytes.fromhex(YOUNG_HEX))
    stored[4] = ["resting"]
    with pytest.raises(msgspec.ValidationError):
        decode_invocation(msgspec.msgpack.encode(stored))


def test_the_address_of_a_plain_service_has_an_empty_key() -> None:
    assert YOUNG.address == ("Counter", "alice")
    assert msgspec.structs.replace(YOUNG, key=None).address == ("Counter", "")
