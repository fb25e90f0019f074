"""Rows and columns of what belongs to a key: `state`, `sys_inbox`, `sys_keyed_service_status`, `sys_promise`.

Introspection 6.6 to 6.8 and 6.10.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Final

import msgspec

from perdure.gateway.sql.needs import Need
from perdure.gateway.sql.rows_invocations import queued_invocation
from perdure.gateway.sql.source import Getter, Source
from perdure.gateway.sql.source import Row as Stored
from perdure.journal import keys
from perdure.journal.entries import Failure, Value
from perdure.journal.ids import format_invocation_id, key_partition
from perdure.journal.keys import MAX_TEXT_BYTES
from perdure.journal.records import Address, Promise, decode_promise

_MOST_RANGES: Final = (
    1_000  # more pairs of service and key than that are cheaper to look for in one scan
)
_ARRIVAL_BYTES: Final = 8  # behind the place, in the keys of the inbox


def _utf8(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _addresses(need: Need) -> list[Address] | None:
    """The keys that alone can be wanted, in the order of a scan; None: any."""
    services, wanted = need.among("service_name"), need.among("service_key")
    if services is None or wanted is None or len(services) * len(wanted) > _MOST_RANGES:
        return None
    pairs = [(str(service), str(key)) for service, key in product(services, wanted)]
    fitting = [each for each in pairs if all(len(t.encode()) <= MAX_TEXT_BYTES for t in each)]
    return sorted(fitting, key=keys.state_range)


def _parts(
    source: Source,
    need: Need,
    whole: tuple[bytes, bytes],
    range_of: Callable[[Address], tuple[bytes, bytes]],
    keys_only: bool = False,
) -> Iterator[list[Stored]]:
    addresses = _addresses(need)
    ranges: Iterable[tuple[bytes, bytes]] = (
        [whole] if addresses is None else map(range_of, addresses)
    )
    for start, stop in ranges:
        yield from source.scan(start, stop, keys_only)


class KeyRow(msgspec.Struct):
    """Base: something of one key."""

    address: Address


_OF_KEY: Final[dict[str, Getter]] = {
    "partition_key": lambda row: key_partition(row.address[1]),
    "service_name": lambda row: row.address[0],
    "service_key": lambda row: row.address[1],
}


def _never(row: object) -> None:
    return None


# ---- state ---------------------------------------------------------------------------------------


class StateRow(KeyRow):
    name: str
    value: bytes


_OF_VALUES: Final = {"value", "value_utf8", "value_length"}


def state_rows(source: Source, need: Need) -> Iterator[list[StateRow]]:
    keys_only = not (need.columns | need.tested()) & _OF_VALUES
    whole = keys.STATE, keys.INBOX
    for part in _parts(source, need, whole, keys.state_range, keys_only):
        yield [StateRow(*keys.split_state(key), value) for key, value in part]


STATE: Final[dict[str, Getter]] = {
    **_OF_KEY,
    "scope": _never,
    "key": lambda row: row.name,
    "key_length": lambda row: len(row.name.encode()),
    "value_utf8": lambda row: _utf8(row.value),
    "value": lambda row: row.value,
    "value_length": lambda row: len(row.value),
}

# ---- inbox and lock ------------------------------------------------------------------------------


class QueuedRow(KeyRow):
    invocation: bytes
    arrival: int


def _queues(source: Source, need: Need) -> Iterator[tuple[Address, list[tuple[int, bytes | None]]]]:
    """Every queue, in order; the first of each holds the lock. None stands for a change of state."""
    whole = keys.INBOX, keys.PROMISE
    address: Address | None = None
    queue: list[tuple[int, bytes | None]] = []
    for part in _parts(source, need, whole, keys.inbox_range):
        for key, value in part:
            owner, _ = keys.split_state(key[:-_ARRIVAL_BYTES])
            if owner != address:
                if address is not None:
                    yield address, queue
                address, queue = owner, []
            queue.append((keys.inbox_arrival(key), queued_invocation(value)))
    if address is not None:
        yield address, queue


def inbox_rows(source: Source, need: Need) -> Iterator[list[QueuedRow]]:
    for address, queue in _queues(source, need):
        yield [QueuedRow(address, id, arrival) for arrival, id in queue[1:] if id is not None]


def lock_rows(source: Source, need: Need) -> Iterator[list[QueuedRow]]:
    for address, queue in _queues(source, need):
        arrival, id = queue[0]
        yield [] if id is None else [QueuedRow(address, id, arrival)]


INBOX: Final[dict[str, Getter]] = {
    **_OF_KEY,
    "id": lambda row: format_invocation_id(row.invocation),
    "sequence_number": lambda row: row.arrival,
    "created_at": _never,
}
LOCKS: Final[dict[str, Getter]] = {
    **_OF_KEY,
    "invocation_id": lambda row: format_invocation_id(row.invocation),
}

# ---- promises ------------------------------------------------------------------------------------


class PromiseRow(KeyRow):
    name: str
    promise: Promise


def promise_rows(source: Source, need: Need) -> Iterator[list[PromiseRow]]:
    whole = keys.PROMISE, keys.TIMER
    for part in _parts(source, need, whole, keys.promise_range):
        yield [PromiseRow(*keys.split_state(key), decode_promise(value)) for key, value in part]


def _success(row: PromiseRow) -> bytes | None:
    result = row.promise.result
    return result.content if isinstance(result, Value) else None


def _success_utf8(row: PromiseRow) -> str | None:
    value = _success(row)
    return None if value is None else _utf8(value)


def _failure(row: PromiseRow) -> str | None:
    result = row.promise.result
    return f"[{result.code}] {result.message}" if isinstance(result, Failure) else None


PROMISES: Final[dict[str, Getter]] = {
    **_OF_KEY,
    "scope": _never,
    "key": lambda row: row.name,
    "completed": lambda row: row.promise.result is not None,
    "completion_success_value": _success,
    "completion_success_value_utf8": _success_utf8,
    "completion_failure": _failure,
}
