"""A message from another partition arrives: it takes effect once, whatever is sent again. Pure.

Each source numbers its messages 1, 2, 3 ...; the last number that took effect is stored in the same change.
Rule: design 8.
"""

from typing import assert_never

from perdure.journal import invocation, keys, reach
from perdure.journal.errors import MessageGap
from perdure.journal.events import Arrived
from perdure.journal.outbox import Answer, Attach, Invoke, Kill, Send
from perdure.journal.turn import Turn


def arrived(turn: Turn, event: Arrived) -> None:
    """Raises MessageGap where others have to come first."""
    row = keys.dedup(event.source)
    raw = turn.view.row(row)
    last = 0 if raw is None else keys.unpack_number(raw)
    if event.seq <= last:
        return
    if event.seq != last + 1:
        raise MessageGap(
            f"message {event.seq} of partition {event.source} came after message {last}; "
            f"expected {last + 1}: send again from there"
        )
    turn.rows[row] = keys.pack_number(event.seq)
    id, message = event.outgoing.to, event.outgoing.message
    match message:
        case Invoke():
            reach.invoke_here(turn, id, invocation.as_of(turn, message.invocation), message.input)
        case Attach():
            reach.attach_here(turn, id, message.waiter, message.waits)
        case Answer():
            invocation.answer(turn, message.waiter, message.result, message.about)
        case Send():
            reach.signal_here(turn, id, message.signal)
        case Kill():
            invocation.kill(turn, id)
        case _:
            assert_never(message)
