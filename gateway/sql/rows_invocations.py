"""Which invocations a query may want, and what is known of each beside its record.

Reads the store as little as the conditions allow: by id, by the tables that list a state, else all of it.
Their columns are in gateway/sql/columns_invocations.py. Introspection 6.1 to 6.3.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from perdure.gateway.sql.failures import bad_invocation_id
from perdure.gateway.sql.needs import Condition, Need
from perdure.gateway.sql.source import (
    DELAYED_STARTS,
    OPEN_ATTEMPTS,
    Row,
    Source,
    fetch_all,
)
from perdure.journal import keys
from perdure.journal.entries import Record
from perdure.journal.errors import BadId
from perdure.journal.ids import parse_invocation_id
from perdure.journal.keys import TimerKind
from perdure.journal.records import (
    BackingOff,
    Completed,
    FailureNote,
    Inboxed,
    Invocation,
    Paused,
    Queued,
    Running,
    Scheduled,
    Status,
    Suspended,
    decode_inbox_entry,
    decode_invocation,
)
from perdure.journal.schema import HandlerType

_OF_KEYS: Final = {"id", "partition_key"}
_INVOKED: Final = frozenset({"invoked", "running", "ready", "backing-off"})
_WORDS_OF: Final[dict[type, frozenset[str]]] = {  # every word that either table has for a status
    Scheduled: frozenset({"scheduled"}),
    Inboxed: frozenset({"inboxed", "pending"}),
    Running: _INVOKED,
    BackingOff: _INVOKED,
    Suspended: frozenset({"suspended"}),
    Paused: frozenset({"paused"}),
    Completed: frozenset({"completed"}),
}


class Head(Record, frozen=True):
    """The first fields of an invocation's record, which are enough to choose among many."""

    service: str
    handler: str
    key: str | None
    type: HandlerType
    status: Status
    created_at_ms: int


_decode_head: Final = msgspec.msgpack.Decoder(Head).decode
_HEAD_FIELDS: Final[dict[str, Callable[[Head], str | None]]] = {
    "target_service_name": lambda head: head.service,
    "target_handler_name": lambda head: head.handler,
    "target_service_key": lambda head: head.key,
}


class Facts:
    """What is known beside the store, asked for once and when it is needed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._callers: dict[str, Invocation | None] = {}
        self._known: dict[str, dict[Any, Any]] = {}

    def attempt(self, id: bytes, attempt: int) -> dict[str, Any]:
        """The open attempt; empty where there is none."""
        found: dict[str, Any] = self._by(OPEN_ATTEMPTS, "id").get(id, {})
        return found if found.get("attempt") == attempt else {}

    def is_delayed(self, id: bytes) -> bool:
        return id in self._by(DELAYED_STARTS, "id")

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._by("sys_service", "name").get(name, {})
        return found

    def deployment(self, id: str | None) -> dict[str, Any]:
        found: dict[str, Any] = self._by("sys_deployment", "id").get(id, {})
        return found

    def caller(self, id: str) -> Invocation | None:
        if id not in self._callers:
            rows = self._source.fetch([keys.invocation(parse_invocation_id(id))])
            self._callers[id] = decode_invocation(rows[0][1]) if rows else None
        return self._callers[id]

    def _by(self, table: str, column: str) -> dict[Any, dict[str, Any]]:
        if table not in self._known:
            self._known[table] = {each[column]: each for each in self._source.live(table)}
        return self._known[table]


class InvocationRow:
    """One invocation, decoded as far as its columns are looked at."""

    __slots__ = ("_head", "_record", "_value", "facts", "id")

    def __init__(self, id: bytes, value: bytes, facts: Facts) -> None:
        self.id = id
        self.facts = facts
        self._value = value
        self._head: Head | None = None
        self._record: Invocation | None = None

    @property
    def record(self) -> Invocation:
        if self._record is None:
            self._record = decode_invocation(self._value)
        return self._record

    @property
    def head(self) -> "Head | Invocation":
        """For what a record begins with."""
        if self._record is not None:
            return self._record
        if self._head is None:
            self._head = _decode_head(self._value)
        return self._head

    @property
    def is_held(self) -> bool:
        """Running or backing off: the runtime has it in hand."""
        return type(self.head.status) in (Running, BackingOff)

    @property
    def in_flight(self) -> bool:
        return type(self.head.status) is Running and not self.facts.is_delayed(self.id)

    @property
    def retry_count(self) -> int | None:
        """Attempts made, the open one included."""
        if not self.is_held:
            return None
        record = self.record
        return max(record.retry_count, record.failed_attempts) + self.in_flight

    @property
    def note(self) -> FailureNote | None:
        return self.record.last_failure if self.is_held else None

    @property
    def attempt(self) -> dict[str, Any]:
        if type(self.head.status) is not Running:
            return {}
        return self.facts.attempt(self.id, self.record.attempt)


# ---- which rows ----------------------------------------------------------------------------------


def invocation_rows(source: Source, need: Need) -> Iterator[list[InvocationRow]]:
    facts = Facts(source)
    wanted_ids, status_words = need.among("id"), need.among("status")
    keep: Callable[[bytes], bool] | None = None
    parts: Iterable[list[Row]]
    if wanted_ids is not None:
        parts = fetch_all(source, (keys.invocation(each) for each in invocation_ids(wanted_ids)))
    elif status_words is not None and _listed(status_words):
        ids = dict.fromkeys(_ids_by_status(source, status_words))
        parts = fetch_all(source, map(keys.invocation, ids))
    else:
        keep = _head_filter(need)
        keys_only = need.columns | need.tested() <= _OF_KEYS
        parts = source.scan(keys.INVOCATION, keys.JOURNAL, keys_only)
    for part in parts:
        rows = part if keep is None else [row for row in part if keep(row[1])]
        yield [InvocationRow(key[1:], value, facts) for key, value in rows]


def held_rows(source: Source, need: Need) -> Iterator[list[InvocationRow]]:
    """Those that run or back off (`sys_invocation_state`)."""
    facts = Facts(source)
    wanted_ids = need.among("id")
    ids = (
        invocation_ids(wanted_ids)
        if wanted_ids is not None
        else list(dict.fromkeys(_ids_by_status(source, _INVOKED)))
    )
    for part in fetch_all(source, map(keys.invocation, ids)):
        rows = (InvocationRow(key[1:], value, facts) for key, value in part)
        yield [each for each in rows if each.is_held]


def invocation_ids(texts: Iterable[object]) -> list[bytes]:
    """Sorted, so that rows come in the order of a scan. Raises QueryRefused for what is no id."""
    try:
        return sorted(parse_invocation_id(str(each)) for each in texts)
    except BadId as e:
        raise bad_invocation_id() from e


def _listed(words: frozenset[str | int]) -> bool:
    """Whether some table lists the invocations in these states, so that not all need be read."""
    return words <= _INVOKED | {"inboxed", "pending", "scheduled"}


def _ids_by_status(source: Source, words: Iterable[str | int]) -> Iterator[bytes]:
    """At least all invocations in these states, perhaps some twice."""
    wanted = set(words)
    kinds = set()
    if wanted & _INVOKED:
        for part in source.scan(keys.ACTIVE, keys.ACTIVE + b"\xff" * 25, keys_only=True):
            yield from (key[1:] for key, _ in part)
        kinds.add(TimerKind.RETRY)
    if "scheduled" in wanted:
        kinds.add(TimerKind.START)
    if kinds:
        for part in source.scan(keys.TIMER, keys.EXPIRY, keys_only=True):
            for key, _ in part:
                _, kind, id, _ = keys.split_timer(key)
                if kind in kinds:
                    yield id
    if wanted & {"inboxed", "pending"}:
        for part in source.scan(keys.INBOX, keys.PROMISE):
            for _, value in part:
                queued = queued_invocation(value)
                if queued is not None:
                    yield queued


def queued_invocation(value: bytes) -> bytes | None:
    """The invocation of an inbox row; None for a change of state that waits."""
    entry = decode_inbox_entry(value)
    return entry.invocation if isinstance(entry, Queued) else None


def _head_filter(need: Need) -> Callable[[bytes], bool] | None:
    """A quick look that drops what can't be wanted, by the fields that a record begins with."""
    quick = [
        [each for each in conditions if each.column in _HEAD_FIELDS or each.column == "status"]
        for conditions in need.alternatives
    ]
    if not all(quick):
        return None

    def keep(value: bytes) -> bool:
        head = _decode_head(value)
        return any(all(_may_hold(each, head) for each in conditions) for conditions in quick)

    return keep


def _may_hold(condition: Condition, head: Head) -> bool:
    if condition.column != "status":
        return condition.holds(_HEAD_FIELDS[condition.column](head))
    words = _WORDS_OF[type(head.status)]
    if condition.negated:
        return not words <= condition.values
    return not words.isdisjoint(condition.values)
