"""Questions and answers of a look into partitions, as they travel."""

import asyncio
from typing import Any

import msgspec
import pytest

from perdure.journal import inspecting as i
from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.entries import Input
from perdure.journal.errors import BadId, Overloaded, PerdureError, StoreDamaged, StoreFailed
from perdure.journal.histogram import Histogram
from perdure.journal.placement import Placement
from perdure.journal.recording import Recording
from perdure.journal.tally import Tally

QUESTIONS: list[i.Asks[Any]] = [
    i.Flush(),
    i.Scan(b"a", b"b", 3, True),
    i.Fetch([b"a", b"b"]),
    i.Count(b"a", 9),
    i.LiveAttempts(),
    i.Newest(),
    i.Look(),
    i.CountWork(),
    i.ListActors(7),
    i.Record(b"id"),
    i.CountPinned(),
]
SECONDS = i.Histo((1.0, 2.0), [1, 2, 3], 4.5)
TREE = i.Tree(
    strategy="one_for_one",
    restart_limit=1,
    restart_window_s=2.0,
    partition_restarts=0,
    down="",
    actor_count=1,
    actors=[
        i.TreeNode(
            actor="A",
            level=0,
            address="x",
            state="idle",
            age_s=1.0,
            restarts=0,
            last_error="",
            mailbox_depth=0,
            key="k",
            partition=3,
        )
    ],
)
RECORDING = Recording(
    id="inv_1",
    service="S",
    handler="h",
    key=None,
    seed=1,
    attempt=2,
    holds_key=False,
    entries=(Input((), b"x"),),
    state={"a": b"b"},
)
GONE = (i.Missing(1, "why"),)
ANSWERS: list[Any] = [
    i.Done(GONE),
    i.Rows([(b"a", b"b")], b"c"),
    i.Counted(Tally({("S", "running"): 2}, {("S", "running"): [(1, b"id")]}, 2), None),
    i.Attempts(
        [i.OpenAttemptFacts(b"id", 1, 2, Awaiting(Combinator.ALL_COMPLETED, (1,), ("x",)))],
        [b"id"],
        GONE,
    ),
    i.News([(1, b"id")], 2, 1, GONE),
    i.Looks([i.PartitionLook(Placement(1, 2), "why")]),
    i.Work([i.PartitionWork(0, True, 0, {"S": 1}, {}, {}, {}, SECONDS, SECONDS, SECONDS)], GONE),
    i.Actors(TREE),
    i.Recorded(RECORDING),
    i.Recorded(None),
    i.Pinned({"": 1}),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: type(each).__name__)
def test_a_question_travels(question: i.Asks[Any]) -> None:
    assert i.decode_question(i.encode_question(question)) == question


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: type(each).__name__)
def test_an_answer_travels(answer: Any) -> None:
    assert i.decode_answer(i.encode_answer(answer)) == answer


@pytest.mark.parametrize(
    ("error", "arrives"),
    [
        (StoreFailed("gone"), StoreFailed),
        (StoreDamaged("gone"), StoreFailed),
        (Overloaded("gone"), Overloaded),
        (BadId("gone"), BadId),
        (PerdureError("gone"), PerdureError),
    ],
)
def test_an_error_arrives_as_callers_know_it(
    error: PerdureError, arrives: type[PerdureError]
) -> None:
    class Refusing:
        async def inspect(self, question: i.Asks[Any]) -> Any:
            raise error

    far = i.Far(lambda raw: i.answer_bytes(Refusing(), raw))
    with pytest.raises(arrives, match="gone") as raised:
        asyncio.run(far.inspect(i.Flush()))
    assert type(raised.value) is arrives


def test_what_is_no_question_is_refused() -> None:
    for raw in (b"", b"\xc0", msgspec.msgpack.encode(["tear_down"])):
        with pytest.raises(msgspec.DecodeError):
            i.decode_question(raw)


def test_histograms_add_up() -> None:
    one = Histogram((1.0, 2.0))
    one.add(0.5)
    one.add(9.0, times=2)
    both = i.Histo.of(one) + SECONDS
    assert both == i.Histo((1.0, 2.0), [2, 2, 5], 23.0)
    with pytest.raises(ValueError, match="different bounds"):
        i.Histo.of(one) + i.Histo((1.0,), [0, 0], 0.0)
