"""The mailbox of one key: one holder, the others in order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.mailbox import EMPTY, Item, Mailbox, enqueue, release, waiting
from perdure.journal.records import Queued


def item(arrival: int) -> Item:
    return arrival, Queued(arrival.to_bytes(24, "big"))


def filled(*arrivals: int) -> Mailbox:
    box = EMPTY
    for arrival in arrivals:
        box, _ = enqueue(box, item(arrival))
    return box


def arrivals(box: Mailbox) -> list[int]:
    return [arrival for arrival, _ in waiting(box)]


def test_the_first_one_holds_the_lock_at_once() -> None:
    assert EMPTY.empty
    box, at_once = enqueue(EMPTY, item(1))
    assert at_once
    assert box == Mailbox(item(1))
    assert not box.empty


def test_later_ones_wait_in_order_of_arrival() -> None:
    box, at_once = enqueue(filled(1, 2), item(3))
    assert not at_once
    assert box.holder == item(1)
    assert arrivals(box) == [2, 3]
    assert box.waiting_count == 2


def test_the_lock_passes_to_the_first_that_waits() -> None:
    box, following = release(filled(1, 2, 3), 1)
    assert following == item(2)
    assert box.holder == item(2)
    assert arrivals(box) == [3]


def test_the_last_release_leaves_it_empty() -> None:
    assert release(filled(1), 1) == (EMPTY, None)


def test_releasing_twice_changes_nothing() -> None:
    box, _ = release(filled(1, 2), 1)
    assert release(box, 1) == (box, None)
    assert release(EMPTY, 1) == (EMPTY, None)


def test_one_that_waits_can_leave_and_the_lock_stays() -> None:
    box, following = release(filled(1, 2, 3), 2)
    assert following is None
    assert box.holder == item(1)
    assert arrivals(box) == [3]


def test_a_mailbox_from_before_a_decision_is_not_changed_by_it() -> None:
    before = filled(1, 2)
    after, _ = enqueue(before, item(3))
    release(after, 1)
    assert arrivals(before) == [2]
    assert arrivals(after) == [2, 3]


@given(st.lists(st.one_of(st.none(), st.integers(0, 12))))
def test_it_behaves_like_a_list_whose_head_holds_the_lock(program: list[int | None]) -> None:
    """None enqueues; a number releases that arrival, whether it is there or not."""
    box, model = EMPTY, list[int]()
    for arrival, each in enumerate(program):
        if each is None:
            box, at_once = enqueue(box, item(arrival))
            model.append(arrival)
            assert at_once == (len(model) == 1)
        else:
            held = bool(model) and model[0] == each
            box, following = release(box, each)
            if each in model:
                model.remove(each)
            assert following == (item(model[0]) if held and model else None)
        assert (box.holder[0] if box.holder else None) == (model[0] if model else None)
        assert arrivals(box) == model[1:]
        assert box.waiting_count == len(model[1:])
