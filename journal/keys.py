"""Every key of the tables, encoding and decoding. Key order is scan order: docs/journal-format.md.

No other file builds a key. Tags and widths are on disk for ever: add a tag, never reuse one. After
the tag comes the partition key, whose upper 16 bits are the slot, except in the two tables that are
ordered by time. Text of users is length-prefixed or last.
"""

import struct
from enum import IntEnum
from functools import lru_cache

from perdure.journal.ids import key_partition
from perdure.journal.records import Address

META = b"\x10"
INVOCATION = b"\x20"
JOURNAL = b"\x21"
ACTIVE = b"\x22"
STATE = b"\x30"
INBOX = b"\x31"
PROMISE = b"\x32"
TIMER = b"\x40"
EXPIRY = b"\x41"
OUTBOX = b"\x50"
DEDUP = b"\x51"
SCHEDULE = b"\x60"

TIMER_LOW_WATER = META + b"timer-low-water"
LAST_ARRIVAL = META + b"last-arrival"
SCHEDULE_COUNT = META + b"schedule-count"
_OUTBOX_LAST = META + b"outbox-last"

MAX_TEXT_BYTES = 0xFFFF  # of a service name or a key

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_OUTBOX = struct.Struct(">cHQ")
_TIMER = struct.Struct(">cQB24sI")
_EXPIRY = struct.Struct(">cQB24s")


class TimerKind(IntEnum):
    START = 0  # a delayed request is due
    SLEEP = 1
    RETRY = 2
    SCHEDULE = 3  # the id is a schedule's


class ExpiryKind(IntEnum):
    JOURNAL = 0
    INVOCATION = 1


def invocation(id: bytes) -> bytes:
    return INVOCATION + id


def active(id: bytes) -> bytes:
    return ACTIVE + id


def journal(id: bytes, index: int) -> bytes:
    """A segment of entries; ``index`` is the first one's."""
    return JOURNAL + id + _U32.pack(index)


def journal_range(id: bytes) -> tuple[bytes, bytes]:
    return JOURNAL + id, JOURNAL + id + b"\xff\xff\xff\xff\xff"


def journal_index(key: bytes) -> int:
    return int(_U32.unpack_from(key, 25)[0])


@lru_cache(maxsize=16_384)
def _place(address: Address) -> bytes:
    """Partition key, service and key: what all rows of one object have in common."""
    service, key = (text.encode() for text in address)
    head: bytes = _U64.pack(key_partition(address[1]))
    return head + _U16.pack(len(service)) + service + _U16.pack(len(key)) + key


def state(address: Address, name: str) -> bytes:
    return STATE + _place(address) + name.encode()


def state_range(address: Address) -> tuple[bytes, bytes]:
    start = STATE + _place(address)
    return start, _after(start)


def state_name(key: bytes, address: Address) -> str:
    return key[1 + len(_place(address)) :].decode()


def split_state(key: bytes) -> tuple[Address, str]:
    """Address and name of any state row."""
    end = 11 + _U16.unpack_from(key, 9)[0]
    service = key[11:end].decode()
    start, end = end + 2, end + 2 + _U16.unpack_from(key, end)[0]
    return (service, key[start:end].decode()), key[end:].decode()


def inbox(address: Address, arrival: int) -> bytes:
    return INBOX + _place(address) + _U64.pack(arrival)


def inbox_range(address: Address) -> tuple[bytes, bytes]:
    start = INBOX + _place(address)
    return start, start + b"\xff" * 9


def inbox_arrival(key: bytes) -> int:
    return int(_U64.unpack_from(key, len(key) - 8)[0])


def promise(address: Address, name: str) -> bytes:
    return PROMISE + _place(address) + name.encode()


def promise_range(address: Address) -> tuple[bytes, bytes]:
    start = PROMISE + _place(address)
    return start, _after(start)


def timer(due_ms: int, kind: TimerKind, id: bytes, completion_id: int = 0) -> bytes:
    return _TIMER.pack(TIMER, due_ms, kind, id, completion_id)


def split_timer(key: bytes) -> tuple[int, TimerKind, bytes, int]:
    """Due time, kind, invocation, completion id."""
    _, due_ms, kind, id, completion_id = _TIMER.unpack(key)
    return due_ms, TimerKind(kind), id, completion_id


def timers_until(due_ms: int) -> bytes:
    """The end of a scan for timers due at or before ``due_ms``."""
    return TIMER + _U64.pack(due_ms + 1)


def timers_from(due_ms: int) -> bytes:
    return TIMER + _U64.pack(due_ms)


def expiry(due_ms: int, kind: ExpiryKind, id: bytes) -> bytes:
    return _EXPIRY.pack(EXPIRY, due_ms, kind, id)


def split_expiry(key: bytes) -> tuple[int, ExpiryKind, bytes]:
    _, due_ms, kind, id = _EXPIRY.unpack(key)
    return due_ms, ExpiryKind(kind), id


def expiries_until(due_ms: int) -> bytes:
    return EXPIRY + _U64.pack(due_ms + 1)


def outbox(destination: int, seq: int) -> bytes:
    return _OUTBOX.pack(OUTBOX, destination, seq)


def split_outbox(key: bytes) -> tuple[int, int]:
    """Destination and sequence number."""
    _, destination, seq = _OUTBOX.unpack(key)
    return destination, seq


def outbox_range(destination: int, after_seq: int = 0) -> tuple[bytes, bytes]:
    """What goes to one partition, behind a sequence number."""
    return outbox(destination, after_seq + 1), OUTBOX + _U16.pack(destination) + b"\xff" * 9


def outbox_last(destination: int) -> bytes:
    """The number of the last message to a partition, sent or not."""
    return _OUTBOX_LAST + _U16.pack(destination)


def dedup(source: int) -> bytes:
    """The number of the last message that took effect here, of one source."""
    return DEDUP + _U16.pack(source)


def schedule(id: bytes) -> bytes:
    return SCHEDULE + id


def schedule_range() -> tuple[bytes, bytes]:
    return SCHEDULE, _after(SCHEDULE)


def pack_number(n: int) -> bytes:
    return _U64.pack(n)


def unpack_number(raw: bytes) -> int:
    return int(_U64.unpack(raw)[0])


def _after(prefix: bytes) -> bytes:
    """The first key behind everything that begins with ``prefix`` (which never ends the key space)."""
    n = int.from_bytes(prefix, "big") + 1
    return n.to_bytes(len(prefix), "big")
