"""Which partition a slot belongs to: contiguous, equal ranges of slots, one for each partition. Pure.

The slot is the upper 16 bits of the partition key that every id begins with (design 8).
"""

import msgspec

from perdure.journal.ids import SLOT_COUNT, key_partition, slot_of

MAX_PARTITIONS = 64


class Placement(msgspec.Struct, frozen=True):
    """One partition among ``count``; ``index`` from 0."""

    index: int = 0
    count: int = 1

    def elsewhere(self, id: bytes) -> int | None:
        """The partition that the id belongs to, None where that is this one."""
        if self.count == 1:
            return None
        owner = owner_of(id, self.count)
        return None if owner == self.index else owner


ALONE = Placement()


def owner_of_slot(slot: int, count: int) -> int:
    return slot * count >> 16


def owner_of(id: bytes, count: int) -> int:
    """``id``: raw, of an invocation or schedule; its first two bytes are the slot."""
    return (id[0] << 8 | id[1]) * count >> 16


def owner_of_key(key: str, count: int) -> int:
    """Of a virtual object's or workflow's key."""
    return owner_of_slot(slot_of(key_partition(key)), count)


def slot_range(index: int, count: int) -> tuple[int, int]:
    """The first slot of a partition, and the first one behind it."""
    return -(-index * SLOT_COUNT // count), -(-(index + 1) * SLOT_COUNT // count)
