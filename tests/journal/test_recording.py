"""What the state of a key was when an invocation began, as its journal tells it."""

import pytest

from perdure.journal import recording
from perdure.journal.entries import (
    ClearAllState,
    ClearState,
    Completion,
    Entry,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    Input,
    SetState,
    StateKeys,
    Value,
    Verbatim,
    Void,
)
from perdure.journal.recording import Recording, StateThen, state_at_start

INPUT = Input((), b"")
NOW = {"a": b"now", "b": b"now"}


@pytest.mark.parametrize(
    ("entries", "values", "unsure"),
    [
        ((), NOW, ("a", "b")),
        ((GetEagerState("a", b"1"),), {"a": b"1", "b": b"now"}, ("b",)),
        ((GetEagerState("a", None),), {"b": b"now"}, ("b",)),
        ((SetState("a", b"2"),), {"b": b"now"}, ("b",)),
        ((SetState("a", b"2"), GetEagerState("a", b"2")), {"b": b"now"}, ("b",)),
        ((GetEagerState("a", b"1"), SetState("a", b"2")), {"a": b"1", "b": b"now"}, ("b",)),
        ((ClearState("a"),), {"b": b"now"}, ("b",)),
        ((ClearAllState(), GetEagerState("a", None)), NOW, ("a", "b")),
        ((GetLazyState(1, "a"), Completion(1, Value(b"1"))), {"a": b"1", "b": b"now"}, ("b",)),
        ((GetLazyState(1, "a"), Completion(1, Void())), {"b": b"now"}, ("b",)),
        ((GetLazyState(1, "a"),), NOW, ("a", "b")),
        ((Verbatim(GetEagerState("a", b"1"), b"wire"),), {"a": b"1", "b": b"now"}, ("b",)),
        ((GetEagerStateKeys(("b",)),), {"b": b"now"}, ("b",)),
        ((GetLazyStateKeys(1), Completion(1, StateKeys(("a",)))), {"a": b"now"}, ("a",)),
        ((SetState("c", b""), GetEagerStateKeys(("b", "c"))), NOW, ("a", "b")),
    ],
)
def test_what_was_read_first_counts_and_else_what_is_there_now(
    entries: tuple[Entry, ...], values: dict[str, bytes], unsure: tuple[str, ...]
) -> None:
    found = state_at_start((INPUT, *entries), NOW, holds_key=False)
    assert found == StateThen(values, unsure)


def test_while_it_holds_its_key_what_it_has_not_written_is_as_it_was() -> None:
    entries = (INPUT, SetState("a", b"2"))
    assert state_at_start(entries, NOW, holds_key=True) == StateThen({"b": b"now"}, ())
    cleared = (INPUT, ClearAllState())
    assert state_at_start(cleared, NOW, holds_key=True).unsure == ("a", "b")


def test_a_recording_is_the_same_after_its_way_as_json() -> None:
    entries = (INPUT, Verbatim(SetState("a", b"\xff"), b"\x00"), Completion(1, Value(b"\xff")))
    made = Recording(
        id="inv_1", service="S", handler="f", key=None, seed=2**64 - 1, attempt=3, holds_key=False,
        entries=entries, state={"a": b"\xff"},
    )  # fmt: skip
    assert recording.decode(recording.encode(made)) == made
