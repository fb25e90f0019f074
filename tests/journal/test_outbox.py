"""Messages between partitions: their bytes, which are on disk for ever, and what they do on arrival."""

import msgspec
import pytest

from perdure.journal import outbox
from perdure.journal.entries import Input, Signal, Value
from perdure.journal.outbox import Answer, Attach, Invoke, Kill, Message, Outgoing, Send
from perdure.journal.records import Waiter
from tests.journal.test_records import YOUNG, YOUNG_HEX

SENDER, TO = bytes(range(8)), bytes(range(24))
WAITER = Waiter(TO, 8, 9)
WAITER_HEX = "93c418" + TO.hex() + "0809"

MESSAGES: list[tuple[Message, str]] = [
    (
        Invoke(YOUNG, Input((("a", "b"),), b"1")),
        "93a6696e766f6b65" + YOUNG_HEX + "93a5696e7075749192a161a162c40131",
    ),
    (Attach(WAITER, True), "93a6617474616368" + WAITER_HEX + "c3"),
    (
        Answer(WAITER, Value(b"x"), TO),
        "94a6616e73776572" + WAITER_HEX + "92a576616c7565c40178c418" + TO.hex(),
    ),
    (Send(Signal(17, Value(b"x"))), "92a67369676e616c93a67369676e616c1192a576616c7565c40178"),
    (Kill(), "91a46b696c6c"),
]


@pytest.mark.parametrize(("message", "stored"), MESSAGES, ids=lambda x: None)
def test_a_message_has_these_bytes_for_ever(message: Message, stored: str) -> None:
    row = outbox.encode(Outgoing(SENDER, TO, message))
    assert row.hex() == "93c408" + SENDER.hex() + "c418" + TO.hex() + stored
    assert outbox.decode(row) == Outgoing(SENDER, TO, message)


def test_a_message_that_is_not_known_is_refused() -> None:
    row = msgspec.msgpack.encode([SENDER, TO, ["surprise"]])
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        outbox.decode(row)
