"""The supervisor's decisions by values: events in, acts out."""

from perdure.actors.processes.broadcasts import Broadcasts
from perdure.actors.processes.plan import Exhausted, Plan, Strategy, WorkerSpec, epoch_of
from perdure.actors.processes.supervision import (
    AllStopped,
    AllUp,
    AskToStop,
    Escalate,
    Introduce,
    Kill,
    Note,
    Refuse,
    Spawn,
    Supervision,
)

STRATEGY = Strategy(
    intensity=2, window_s=10.0, first_backoff_s=1.0, start_timeout_s=5.0, stop_timeout_s=3.0,
    heartbeat_interval_s=1.0, heartbeat_timeout_s=4.0,
)  # fmt: skip
PARTITION = WorkerSpec("partition-0", "partition", 0, "m:f", exhausted=Exhausted.DOWN)
GATEWAY = WorkerSpec("gateway-0", "gateway", 0, "m:f", stage=1)
NOBODY: frozenset[str] = frozenset()


def _epoch(start: int) -> int:
    return epoch_of(7, start)


def _up() -> Supervision:
    tree = Supervision(Plan((PARTITION, GATEWAY), STRATEGY), 7)
    tree.begin(0.0)
    tree.ready("partition-0", _epoch(1), 0.0)
    tree.ready("gateway-0", _epoch(1), 0.0)
    return tree


def _acts(acts: list[object]) -> list[object]:
    return [act for act in acts if not isinstance(act, Note)]


def test_a_stage_begins_when_the_one_before_is_up() -> None:
    tree = Supervision(Plan((PARTITION, GATEWAY), STRATEGY), 7)
    assert tree.begin(0.0) == [Spawn("partition-0", _epoch(1))]
    ready = tree.ready("partition-0", _epoch(1), 1.0)
    assert ready == [Introduce(), Spawn("gateway-0", _epoch(1))]
    assert tree.ready("gateway-0", _epoch(1), 2.0) == [Introduce(), AllUp()]


def test_the_last_stage_is_drained_first() -> None:
    tree = _up()
    assert tree.stop(5.0) == [AskToStop("gateway-0")]
    assert tree.exited("gateway-0", "ended", 6.0) == [AskToStop("partition-0")]
    assert tree.exited("partition-0", "ended", 7.0) == [AllStopped()]


def test_restarts_wait_longer_and_longer_and_then_a_partition_is_down() -> None:
    tree = _up()
    acts = _acts([*tree.exited("partition-0", "died", 1.0)])
    assert acts == [Introduce(), Spawn("partition-0", _epoch(2))]
    assert _acts([*tree.exited("partition-0", "died", 1.1)]) == []
    assert tree.tick(2.0, NOBODY) == []
    assert tree.tick(2.1, NOBODY) == [Spawn("partition-0", _epoch(3))]
    assert tree.given_up() == {}
    assert _acts([*tree.exited("partition-0", "the disk is full", 2.2)]) == [Introduce()]
    assert tree.names("down") == ["partition-0"]
    assert tree.given_up() == {"partition-0": "the disk is full"}
    assert tree.tick(12.1, NOBODY) == []  # it is tried again once a window
    assert tree.tick(12.2, NOBODY) == [Spawn("partition-0", _epoch(4))]
    assert tree.given_up() == {"partition-0": "the disk is full"}
    assert _acts([*tree.exited("partition-0", "still full", 12.3)]) == [Introduce()]
    assert tree.names("down") == ["partition-0"]
    status = tree.status(12.3, {})[0]
    assert (status.state, status.restart_count) == ("down", 4)
    assert status.last_error == "still full"
    assert tree.tick(22.3, NOBODY) == [Spawn("partition-0", _epoch(5))]
    assert tree.ready("partition-0", _epoch(5), 22.4) == [
        Introduce(),
        Note("partition-0 is up again"),
    ]
    assert tree.given_up() == {}


def test_failures_that_are_long_ago_do_not_count() -> None:
    tree = _up()
    for at in (0.0, 11.0, 22.0, 33.0):
        acts = tree.exited("gateway-0", "died", at)
        assert any(isinstance(act, Spawn) for act in acts)
        tree.ready("gateway-0", tree.children["gateway-0"].epoch, at)


def test_a_gateway_over_its_intensity_escalates() -> None:
    tree = _up()
    tree.exited("gateway-0", "died", 1.0)
    tree.exited("gateway-0", "died", 1.1)
    tree.tick(2.1, NOBODY)
    acts = tree.exited("gateway-0", "crashed", 2.2)
    assert Escalate("gateway-0 failed 3 times, last: crashed") in acts


def test_a_refusal_ends_the_first_start_alone() -> None:
    first = Supervision(Plan((PARTITION,), STRATEGY), 7)
    first.begin(0.0)
    assert first.failed("partition-0", _epoch(1), "no such file", True) == [Kill("partition-0")]
    assert first.exited("partition-0", "killed", 0.1) == [Refuse("no such file")]
    later = _up()
    later.exited("partition-0", "died", 1.0)
    later.failed("partition-0", _epoch(2), "no such file", True)
    assert not any(isinstance(a, Refuse) for a in later.exited("partition-0", "killed", 1.1))


def test_a_store_that_can_not_be_opened_refuses_the_first_tree_and_no_later_one() -> None:
    first = Supervision(Plan((PARTITION,), STRATEGY), 7)
    later = Supervision(Plan((PARTITION,), STRATEGY), 7, is_ordered=False)
    for tree in (first, later):
        tree.begin(0.0)
        tree.failed("partition-0", _epoch(1), "damaged", True, True)
    assert first.exited("partition-0", "killed", 0.1) == [Refuse("damaged", is_of_store=True)]
    assert Spawn("partition-0", _epoch(2)) in later.exited("partition-0", "killed", 0.1)


def test_who_gives_no_sign_of_life_is_killed() -> None:
    tree = _up()
    for at in (1.0, 2.0, 3.0, 4.0):
        tree.heard("gateway-0", _epoch(1), at)
        assert tree.tick(at, NOBODY) == []
    assert Kill("partition-0") in tree.tick(5.0, NOBODY)


def test_who_was_stopped_by_a_signal_at_two_looks_is_killed() -> None:
    tree = _up()
    assert tree.tick(0.5, frozenset({"gateway-0"})) == []
    assert tree.tick(1.0, NOBODY) == []
    assert tree.tick(1.5, frozenset({"gateway-0"})) == []
    assert Kill("gateway-0") in tree.tick(2.0, frozenset({"gateway-0"}))


def test_nobody_is_blamed_for_a_pause_of_the_supervisor_itself() -> None:
    tree = _up()
    tree.tick(1.0, NOBODY)
    assert tree.tick(1000.0, NOBODY) == []


def test_who_takes_too_long_to_start_or_stop_is_killed() -> None:
    tree = Supervision(Plan((PARTITION,), STRATEGY), 7)
    tree.begin(0.0)
    for at in (1.0, 3.0, 5.0):
        assert tree.tick(at, NOBODY) == []
    assert Kill("partition-0") in tree.tick(6.0, NOBODY)
    tree = _up()
    tree.stop(0.5)
    for at in (1.0, 2.0, 3.0):
        assert tree.tick(at, NOBODY) == []
    assert Kill("gateway-0") in tree.tick(4.0, NOBODY)


def test_news_of_an_earlier_process_changes_nothing() -> None:
    tree = _up()
    tree.exited("partition-0", "died", 1.0)
    assert tree.ready("partition-0", _epoch(1), 1.1) == []
    assert tree.failed("partition-0", _epoch(1), "late", True) == []
    tree.heard("partition-0", _epoch(1), 99.0)
    assert tree.children["partition-0"].heard_at_s == 1.0


def test_epochs_of_a_later_tree_are_higher_than_any_before() -> None:
    assert epoch_of(8, 1) > epoch_of(7, 1_000_000)


def test_a_broadcast_is_done_when_all_have_heard_or_gone() -> None:
    broadcasts = Broadcasts()
    origin = ("gateway-0", 1, 1)
    assert broadcasts.begin(origin, {"partition-0", "partition-1"}) == []
    assert broadcasts.heard(origin, "partition-0") == []
    assert broadcasts.gone("partition-1") == [origin]
    assert broadcasts.begin(("gateway-0", 1, 2), set()) == [("gateway-0", 1, 2)]


def test_a_broadcast_of_somebody_who_is_gone_is_forgotten() -> None:
    broadcasts = Broadcasts()
    broadcasts.begin(("gateway-0", 1, 1), {"partition-0"})
    assert broadcasts.gone("gateway-0") == []
    assert broadcasts.heard(("gateway-0", 1, 1), "partition-0") == []


def test_who_had_been_up_for_a_while_is_started_again_at_once_however_often() -> None:
    tree = _up()
    for start in range(2, 9):
        at = float(start)  # always a second after it was up
        acts = tree.exited("partition-0", "was killed by SIGKILL", at)
        assert Spawn("partition-0", _epoch(start)) in acts
        tree.ready("partition-0", _epoch(start), at)


def test_a_tree_that_was_up_before_starts_all_at_once_and_stops_in_order() -> None:
    tree = Supervision(Plan((PARTITION, GATEWAY), STRATEGY), 7, is_ordered=False)
    assert tree.begin(0.0) == [Spawn("partition-0", _epoch(1)), Spawn("gateway-0", _epoch(1))]
    assert tree.ready("gateway-0", _epoch(1), 1.0) == [Introduce()]
    assert tree.ready("partition-0", _epoch(1), 2.0) == [Introduce(), AllUp()]
    assert tree.stop(5.0) == [AskToStop("gateway-0")]
    assert tree.exited("gateway-0", "ended", 6.0) == [AskToStop("partition-0")]


def test_who_escalates_is_not_introduced_any_more() -> None:
    tree = _up()
    tree.exited("gateway-0", "died", 0.1)
    tree.ready("gateway-0", _epoch(2), 0.1)
    tree.exited("gateway-0", "died", 0.2)
    tree.tick(1.2, NOBODY)
    tree.ready("gateway-0", _epoch(3), 1.2)
    acts = tree.exited("gateway-0", "died", 1.3)
    assert any(isinstance(act, Escalate) for act in acts)
    assert tree.names("up") == ["partition-0"]
