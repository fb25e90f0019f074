"""Does a set of notifications satisfy what an invocation awaits? Pure. Rule: service protocol 5.8."""

from collections.abc import Iterable
from enum import Enum

from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.entries import Completion, Failure, Notification

NotificationId = tuple[str, int | str]


class Outcome(Enum):
    PENDING = 0
    SUCCESS = 1
    FAILURE = 2
    EITHER = 3


class _Indeterminate(Exception):
    """A subtree is done, but whether well or badly only the handler's side can tell."""


def satisfied(awaiting: Awaiting, notifications: Iterable[Notification]) -> bool:
    """Whether the handler can go on. True too early is safe (it suspends again), too late hangs."""
    arrived: dict[NotificationId, Outcome] = {}
    for each in notifications:
        outcome = Outcome.FAILURE if type(each.result) is Failure else Outcome.SUCCESS
        arrived.setdefault(notification_id(each), outcome)
    if not arrived:
        return False
    try:
        return _evaluate(awaiting, arrived) is not Outcome.PENDING
    except _Indeterminate:
        return True


def has_leaf(awaiting: Awaiting) -> bool:
    """Whether anything at all can end the wait."""
    if awaiting.completions or awaiting.signals:
        return True
    return any(has_leaf(each) for each in awaiting.nested)


def notification_id(notification: Notification) -> NotificationId:
    if type(notification) is Completion:
        return ("completion", notification.completion_id)
    return ("signal", notification.signal)  # type: ignore[union-attr]


def _children(node: Awaiting, arrived: dict[NotificationId, Outcome]) -> list[Outcome]:
    leaves = [arrived.get(("completion", c), Outcome.PENDING) for c in node.completions]
    leaves += [arrived.get(("signal", s), Outcome.PENDING) for s in node.signals]
    return leaves + [_evaluate(n, arrived) for n in node.nested]


def _evaluate(node: Awaiting, arrived: dict[NotificationId, Outcome]) -> Outcome:
    children = _children(node, arrived)
    done = [c for c in children if c is not Outcome.PENDING]
    match node.combinator:
        case Combinator.UNKNOWN:
            return Outcome.EITHER if done else Outcome.PENDING
        case Combinator.FIRST_COMPLETED:
            return done[0] if done else Outcome.PENDING
        case Combinator.ALL_COMPLETED:
            return Outcome.SUCCESS if len(done) == len(children) else Outcome.PENDING
        case Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED:
            return _decisive(children, Outcome.SUCCESS, Outcome.FAILURE)
        case Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED:
            return _decisive(children, Outcome.FAILURE, Outcome.SUCCESS)


def _decisive(children: list[Outcome], first: Outcome, every: Outcome) -> Outcome:
    """One ``first`` decides, or all being ``every``."""
    if first in children:
        return first
    if all(c is every for c in children):
        return every
    if Outcome.EITHER in children:
        raise _Indeterminate
    return Outcome.PENDING
