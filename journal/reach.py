"""What one invocation does to another one, wherever that lives: invoke, attach, signal, kill.

In this partition it happens in the same turn; in another one it is a message of the outbox, which does the
same on arrival (delivery.py). ``sender`` is the raw id of who does it: messages of one sender arrive in
order. Rules: service protocol 5.5, design 8.
"""

from msgspec.structs import replace

from perdure.journal import invocation, outbox
from perdure.journal.entries import CANCEL_SIGNAL, Failure, Input, Signal, Void
from perdure.journal.records import Completed, Invocation, Waiter
from perdure.journal.schema import HandlerType
from perdure.journal.turn import Turn

NOT_FOUND = Failure(404, "not found")
ALREADY_INVOKED = Failure(409, "the workflow method was already invoked")


def invoke(turn: Turn, sender: bytes, id: bytes, record: Invocation, input: Input) -> None:
    """Begin an invocation, or wait for the one that has this id."""
    if turn.is_elsewhere(id):
        turn.post(sender, id, outbox.Invoke(record, input))
    else:
        invoke_here(turn, id, record, input)


def invoke_here(turn: Turn, id: bytes, record: Invocation, input: Input) -> None:
    existing = turn.invocation(id)
    if existing is None or existing.is_forgotten:
        if existing is not None:
            invocation.purge(turn, id, existing)
        return invocation.begin(turn, id, record, input)
    for waiter in record.waiters:
        if existing.type is HandlerType.WORKFLOW:
            invocation.answer(turn, waiter, ALREADY_INVOKED, id)
        else:
            attach_here(turn, id, waiter, True)


def attach(turn: Turn, sender: bytes, id: bytes, waiter: Waiter, waits: bool) -> None:
    """Answer a waiter with the end of an invocation; ``waits`` False: with what is known now."""
    if turn.is_elsewhere(id):
        turn.post(sender, id, outbox.Attach(waiter, waits))
    else:
        attach_here(turn, id, waiter, waits)


def attach_here(turn: Turn, id: bytes, waiter: Waiter, waits: bool) -> None:
    existing = turn.invocation(id)
    if existing is None or existing.is_forgotten:
        invocation.answer(turn, waiter, NOT_FOUND, id)
    elif type(existing.status) is Completed:
        invocation.answer(turn, waiter, existing.status.result, id)
    elif waits:
        turn.put(id, replace(existing, waiters=(*existing.waiters, waiter)))
    else:
        invocation.answer(turn, waiter, Void(), id)


def signal(turn: Turn, sender: bytes, id: bytes, news: Signal) -> None:
    if turn.is_elsewhere(id):
        turn.post(sender, id, outbox.Send(news))
    else:
        signal_here(turn, id, news)


def signal_here(turn: Turn, id: bytes, news: Signal) -> None:
    """Unknown and finished targets drop it. The signal to cancel also reaches what has not begun."""
    if news.signal != CANCEL_SIGNAL:
        return invocation.notify(turn, id, news)
    target = turn.invocation(id)
    if target is not None:
        invocation.cancel(turn, id, target)
