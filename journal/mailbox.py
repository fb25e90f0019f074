"""The mailbox of one object key: at most one holder of the lock, the others in order of arrival.

Pure, and O(1) for each message: the queue is two linked lists that share structure, so a mailbox
can be kept from before a decision and after it. Its rows on disk are the inbox table.
"""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from perdure.journal.records import InboxEntry

Item: TypeAlias = tuple[int, InboxEntry]  # arrival number and entry
_Cell: TypeAlias = "tuple[Item, _Cell] | None"


class Mailbox(msgspec.Struct, frozen=True):
    """``holder``: the item whose turn it is. ``front`` is in order of arrival, ``back`` reversed."""

    holder: Item | None = None
    front: tuple | None = None  # type: ignore[type-arg]  # _Cell; msgspec knows no recursive tuples
    back: tuple | None = None  # type: ignore[type-arg]
    waiting_count: int = 0

    @property
    def empty(self) -> bool:
        return self.holder is None


EMPTY = Mailbox()


def enqueue(box: Mailbox, item: Item) -> tuple[Mailbox, bool]:
    """The mailbox with ``item`` last, and whether it is its turn at once."""
    if box.holder is None:
        return Mailbox(item), True
    return Mailbox(box.holder, box.front, (item, box.back), box.waiting_count + 1), False


def release(box: Mailbox, arrival: int) -> tuple[Mailbox, Item | None]:
    """Without the item ``arrival``; the next holder, where the lock passes on.

    Releasing what is not there (a duplicate) changes nothing.
    """
    if box.holder is None:
        return box, None
    if box.holder[0] != arrival:
        return _remove_waiting(box, arrival), None
    front: _Cell = box.front
    back: _Cell = box.back
    if front is None:
        while back is not None:
            front, back = (back[0], front), back[1]
    if front is None:
        return EMPTY, None
    return Mailbox(front[0], front[1], back, box.waiting_count - 1), front[0]


def waiting(box: Mailbox) -> Iterator[Item]:
    """Those behind the holder, in order of arrival."""
    cell: _Cell = box.front
    while cell is not None:
        yield cell[0]
        cell = cell[1]
    late = []
    cell = box.back
    while cell is not None:
        late.append(cell[0])
        cell = cell[1]
    yield from reversed(late)


def _remove_waiting(box: Mailbox, arrival: int) -> Mailbox:
    kept = [item for item in waiting(box) if item[0] != arrival]
    if len(kept) == box.waiting_count:
        return box
    cell: _Cell = None
    for item in reversed(kept):
        cell = (item, cell)
    return Mailbox(box.holder, cell, None, len(kept))
