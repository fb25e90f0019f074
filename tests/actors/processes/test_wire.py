"""The sealed wire by values: what opens, what does not, and that nothing grows without bound."""

import pickle

import pytest

from perdure.actors.processes import wire

KEY, OTHER = b"k" * wire.KEY_BYTES, b"o" * wire.KEY_BYTES


@pytest.fixture(autouse=True)
def _listening_on_7000(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_own_port", 7000)
    monkeypatch.setattr(wire.Buffer, "sealer", wire.Sealer(KEY), raising=False)


def _received(data: bytes, step: int = 1 << 20) -> wire.Buffer:
    buffer = wire.Buffer()
    for start in range(0, len(data), step):
        buffer.addMore(data[start : start + step])
    return buffer


def _frame(sealed: bytes) -> bytes:
    return b"%d>%b" % (len(sealed), sealed)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_what_was_sealed_for_this_port_opens_in_any_pieces(step: int) -> None:
    buffer = _received(wire.Sealer(KEY).seal(("from", b"hello"), 7000), step)
    assert buffer.isDone()
    assert buffer.completed() == (("from", b"hello"), b"")


def test_what_was_sealed_for_another_port_does_not_open() -> None:
    assert _received(wire.Sealer(KEY).seal("hello", 7001)).completed() is None


def test_what_was_sealed_with_another_key_does_not_open() -> None:
    assert _received(wire.Sealer(OTHER).seal("hello", 7000)).completed() is None


def test_an_acknowledgement_opens_at_any_port() -> None:
    assert _received(wire.Sealer(KEY).seal_control("ACK")).completed() == ("ACK", b"")


def test_a_message_does_not_pass_for_an_acknowledgement() -> None:
    sealed = wire.Sealer(KEY).seal("ACK", 7000).partition(b">")[2]
    assert _received(_frame(b"C" + sealed[1:])).completed() is None


@pytest.mark.parametrize(
    "data",
    [
        b"-5>abc",
        b">abc",
        b"1e3>abc",
        b"x" * 20,
        b"99999999",
        b"9999999>",
        _frame(b""),
        _frame(pickle.dumps("hello")),
    ],
)
def test_what_is_not_ours_is_done_at_once_and_has_no_content(data: bytes) -> None:
    buffer = _received(data)
    assert buffer.isDone()
    assert buffer.completed() is None


def test_no_more_is_read_than_belongs_to_a_message() -> None:
    data = wire.Sealer(KEY).seal("hello", 7000)
    buffer = wire.Buffer()
    read = 0
    while not buffer.isDone():
        amount = buffer.remainingAmount()
        assert read + amount <= len(data)
        buffer.addMore(data[read : read + amount])
        read += amount
    assert buffer.completed() == ("hello", b"")


def test_a_message_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(ValueError, match="too large"):
        wire.Sealer(KEY).seal(bytes(wire.MESSAGE_LIMIT_BYTES), 7000)
