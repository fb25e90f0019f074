"""Which words find an invocation, of those an operator may filter by."""

import pytest
from msgspec.structs import replace

from perdure.actors.describe import STATUS_WORDS, matches
from perdure.journal.entries import Failure, Outcome, Value
from perdure.journal.records import INBOXED, BackingOff, Completed, Invocation, Status
from perdure.journal.requests import Filter
from perdure.journal.schema import HandlerType

RECORD = Invocation("Counter", "add", "k", HandlerType.EXCLUSIVE, INBOXED, 1, 1, 1, "ingress")


def completed(result: Outcome) -> Completed:
    return Completed(result, 1, 2)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (INBOXED, {"pending"}),
        (BackingOff(1), {"backing-off"}),
        (completed(Value(b"1")), {"completed", "succeeded"}),
        (completed(Failure(500, "no")), {"completed", "failed"}),
    ],
)
def test_a_status_has_a_word_and_an_end_has_two(status: Status, words: set[str]) -> None:
    record = replace(RECORD, status=status)
    assert {each for each in STATUS_WORDS if matches(record, Filter(status=each))} == words
