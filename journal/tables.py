"""The tables as the machine sees them: what is on disk, under what was decided but is not yet there.

Steps are applied to the *open* group. ``seal`` encodes it, once per row however often it changed,
and ``committed`` tells that it is durable. At most one group is sealed at a time. Nothing here
decides anything; formats: docs/journal-format.md.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Protocol

from perdure.journal import keys, records
from perdure.journal.entries import Entry, Output, decode_segment, encode_segment, payload_bytes
from perdure.journal.lately import Lately
from perdure.journal.mailbox import EMPTY, Mailbox, enqueue
from perdure.journal.pins import Pins
from perdure.journal.placement import ALONE, Placement
from perdure.journal.records import Address, Completed, Invocation, Promise, Running
from perdure.journal.schedules_records import Schedule, decode_schedule
from perdure.journal.schema import Handler
from perdure.journal.store import Row, Rows, Write
from perdure.journal.turn import Step

SEGMENT_BYTES = 1 << 20  # a larger segment of a journal is split
_ROW_BYTES = 100  # what a row costs besides its payload, roughly
_WARM_LIMIT = 20_000  # objects kept in memory, whatever their size
_ABSENT = object()
_BRIEF = (keys.ACTIVE, keys.INBOX)


class Handlers(Protocol):
    """Which handlers exist, at their latest revision."""

    def handler(
        self, service: str, handler: str, deployment_id: str | None = None
    ) -> Handler | None: ...
    def handler_names(self) -> list[str]: ...


class _Group:
    """What one commit will write, decoded. None deletes."""

    __slots__ = (
        "entries",
        "forgotten",
        "fresh",
        "invocations",
        "last_arrival",
        "promises",
        "rows",
        "size_bytes",
        "state",
    )

    def __init__(self) -> None:
        self.invocations: dict[bytes, Invocation | None] = {}
        self.entries: dict[bytes, tuple[int, list[Entry]]] = {}
        self.forgotten: set[bytes] = set()
        self.state: dict[bytes, bytes | None] = {}
        self.promises: dict[tuple[Address, str], Promise | None] = {}
        self.rows: dict[bytes, bytes | None] = {}
        self.fresh: set[bytes] = set()  # brief rows that were not there before this group
        self.last_arrival: int | None = None
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(
            self.invocations
            or self.rows
            or self.state
            or self.entries
            or self.promises
            or self.forgotten
        )


class _Warm:
    """What is kept in memory of one object: its mailbox and its state, each loaded when asked for."""

    __slots__ = ("group", "mailbox", "size_bytes", "state")

    def __init__(self) -> None:
        self.mailbox: Mailbox | None = None
        self.state: dict[str, bytes] | None = None
        self.size_bytes = 0
        self.group = 0  # the last group that wrote to it


class Tables:
    """``View`` of the partition machine. Sizes in bytes; reads of cold rows go to the store at once."""

    def __init__(
        self,
        store: Rows,
        handlers: Handlers,
        state_cache_bytes: int = 64 << 20,
        placement: Placement = ALONE,
    ) -> None:
        self._store = store
        self.placement = placement
        self._state_cache_bytes = state_cache_bytes
        self.handler = handlers.handler
        self.handler_names = handlers.handler_names
        self._open = _Group()
        self._sealed = _Group()  # empty while nothing is in flight
        self._group_number = 1
        self._live: dict[bytes, Invocation] = {}  # running and durable
        self._warm: OrderedDict[Address, _Warm] = OrderedDict()
        self._warm_bytes = 0
        self.lately = Lately()
        self.pins: Pins | None = None  # while somebody wants them counted
        raw = store.get(keys.LAST_ARRIVAL)
        self.last_arrival = 0 if raw is None else keys.unpack_number(raw)

    # ---- the view

    def invocation(self, id: bytes) -> Invocation | None:
        found = self._open.invocations.get(id, _ABSENT)
        if found is _ABSENT:
            found = self._sealed.invocations.get(id, _ABSENT)
        if found is not _ABSENT:
            return found  # type: ignore[return-value]
        live = self._live.get(id)
        if live is not None:
            return live
        raw = self._store.get(keys.invocation(id))
        return None if raw is None else records.decode_invocation(raw)

    def entries(self, id: bytes, from_index: int = 0) -> list[Entry]:
        added = self._open.entries.get(id)
        if added is not None and added[0] == 0:  # it began in this group: all of it is here
            return added[1][from_index:]
        segments: dict[int, list[Entry]] = {}
        if id not in self._open.forgotten:
            if id not in self._sealed.forgotten:
                for key, value in self._store.scan(*keys.journal_range(id)):
                    segments[keys.journal_index(key)] = list(decode_segment(value))
            _add_segment(segments, self._sealed.entries.get(id))
        _add_segment(segments, added)
        journal: list[Entry] = []
        for index in sorted(segments):
            assert index == len(journal), f"journal of {id.hex()} has a hole before entry {index}"
            journal += segments[index]
        return journal[from_index:] if from_index else journal

    def state(self, address: Address) -> Mapping[str, bytes]:
        warm = self._object(address)
        if warm.state is None:
            rows = self._store.scan(*keys.state_range(address))
            warm.state = {keys.state_name(key, address): value for key, value in rows}
            self._resize(warm, sum(len(k) + len(v) + _ROW_BYTES for k, v in warm.state.items()))
        return warm.state

    def mailbox(self, address: Address) -> Mailbox:
        warm = self._object(address)
        if warm.mailbox is None:
            box = EMPTY
            for key, value in self._store.scan(*keys.inbox_range(address)):
                item = (keys.inbox_arrival(key), records.decode_inbox_entry(value))
                box, _ = enqueue(box, item)
            warm.mailbox = box
        return warm.mailbox

    def waiting_count(self, address: Address) -> int:
        """How many invocations wait for a key, as far as that is in memory; reads nothing."""
        warm = self._warm.get(address)
        return 0 if warm is None or warm.mailbox is None else warm.mailbox.waiting_count

    def promise(self, address: Address, name: str) -> Promise | None:
        for group in (self._open, self._sealed):
            found = group.promises.get((address, name), _ABSENT)
            if found is not _ABSENT:
                return found  # type: ignore[return-value]
        raw = self._store.get(keys.promise(address, name))
        return None if raw is None else records.decode_promise(raw)

    def promise_names(self, address: Address) -> list[str]:
        start, stop = keys.promise_range(address)
        names = {key[len(start) :].decode(): True for key, _ in self._store.scan(start, stop)}
        for group in (self._sealed, self._open):
            for (where, name), promise in group.promises.items():
                if where == address:
                    names[name] = promise is not None
        return sorted(name for name, exists in names.items() if exists)

    def timer(self, key: bytes) -> bytes | None:
        """The value of a timer's row."""
        for group in (self._open, self._sealed):
            if key in group.rows:
                return group.rows[key]
        return self._store.get(key)

    row = timer  # any other row of its own, too

    def schedules(self) -> list[Schedule]:
        """All of them, in no order; their number is limited."""
        start, stop = keys.schedule_range()
        rows: dict[bytes, bytes | None] = dict(self._store.scan(start, stop))
        for group in (self._sealed, self._open):
            rows.update((k, v) for k, v in group.rows.items() if k[:1] == keys.SCHEDULE)
        return [decode_schedule(raw) for raw in rows.values() if raw is not None]

    # ---- other reads

    def timers(self, after: bytes, until_ms: int, limit: int) -> list[Row]:
        """The first ``limit`` timer rows behind key ``after`` that are due at or before ``until_ms``."""
        stop = keys.timers_until(until_ms)
        pending: dict[bytes, bytes | None] = {}
        for group in (self._sealed, self._open):
            for key, value in group.rows.items():
                if after < key < stop and key[:1] == keys.TIMER:
                    pending[key] = value
        # as many more as may be gone already, so that none behind them is missed
        rows = dict(self._store.scan(after + b"\x00", stop, limit + len(pending)))
        for key, value in pending.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return sorted(rows.items())[:limit]

    def outbox(self, destination: int, after_seq: int, limit: int) -> list[Row]:
        """The first durable messages for a partition behind ``after_seq``, in order."""
        return self._store.scan(*keys.outbox_range(destination, after_seq), limit)

    def running(self) -> list[bytes]:
        """Ids of the invocations that must have an open attempt; read once, at start."""
        scan = self._store.scan(keys.ACTIVE, keys.ACTIVE + b"\xff" * 25)
        return [key[1:] for key, _ in scan]

    def pending_invocations(self) -> Iterator[tuple[bytes, Invocation | None]]:
        """Records that are not on disk yet, newest state of each; None where deleted."""
        merged = {**self._sealed.invocations, **self._open.invocations}
        return iter(merged.items())

    @property
    def open_bytes(self) -> int:
        """The size of the open group, roughly."""
        return self._open.size_bytes

    @property
    def has_open_writes(self) -> bool:
        return bool(self._open)

    # ---- writes

    def apply(self, step: Step) -> None:
        """Add a step to the open group."""
        group = self._open
        if step.last_arrival != self.last_arrival:
            self.last_arrival = group.last_arrival = step.last_arrival
        for id in step.forgotten_journals:
            group.entries.pop(id, None)
            group.forgotten.add(id)
        for id, (first, entries) in step.entries.items():
            self._add_entries(id, first, entries)
        for id, invocation in step.invocations.items():
            group.invocations[id] = invocation
            if invocation is not None and type(invocation.status) is Completed:
                group.size_bytes += payload_bytes(Output(invocation.status.result))
        for address, name, value in step.state:
            self._set_state(address, name, value)
        for address, box in step.mailboxes.items():
            warm = self._object(address)
            warm.mailbox = box
            warm.group = self._group_number
        if step.promises:
            group.promises.update(step.promises)
        for key, row in step.rows.items():
            if key[:1] in _BRIEF:
                self._set_brief_row(key, row)
            else:
                group.rows[key] = row
        group.size_bytes += _ROW_BYTES * (len(step.rows) + len(step.invocations))

    def put_row(self, key: bytes, value: bytes | None) -> None:
        """A row of the loop's own, such as the timers' low-water mark."""
        self._open.rows[key] = value

    def seal(self, now_ms: int) -> list[Write]:
        """Close the open group and encode it. The group before must be committed."""
        assert not self._sealed, "only one group is in flight at a time"
        group = self._open
        if self.pins is not None:
            self.pins.note(group.invocations, self._durable)
        writes: list[Write] = []
        writes += group.rows.items()
        writes += group.state.items()
        for (address, name), promise in group.promises.items():
            row = None if promise is None else records.encode(promise)
            writes.append((keys.promise(address, name), row))
        for id, invocation in group.invocations.items():
            row = None if invocation is None else records.encode(invocation)
            writes.append((keys.INVOCATION + id, row))
        journals: dict[bytes, bytes | None] = {}  # a forgotten one may have begun anew
        for id in group.forgotten:
            for key, _ in self._store.scan(*keys.journal_range(id)):
                journals[key] = None
        for id, (first, entries) in group.entries.items():
            if group.size_bytes < SEGMENT_BYTES:
                journals[keys.journal(id, first)] = encode_segment(entries, now_ms)
            else:
                journals.update(_segments(id, first, entries, now_ms))
        writes += journals.items()
        if group.last_arrival is not None:
            writes.append((keys.LAST_ARRIVAL, keys.pack_number(group.last_arrival)))
        self._sealed, self._open = group, _Group()
        self._group_number += 1
        return writes

    def committed(self) -> None:
        """The sealed group is durable."""
        for id, invocation in self._sealed.invocations.items():
            self.lately.note(id, invocation)
            if invocation is not None and type(invocation.status) is Running:
                self._live[id] = invocation
            else:
                self._live.pop(id, None)
        self._sealed = _Group()
        self._evict()

    # ---- inside

    def _durable(self, id: bytes) -> Invocation | None:
        """An invocation as it was before the groups that are open or in flight."""
        live = self._live.get(id)
        raw = None if live is not None else self._store.get(keys.invocation(id))
        return live if raw is None else records.decode_invocation(raw)

    def _set_brief_row(self, key: bytes, row: bytes | None) -> None:
        """A row that the machine only puts where there is none: if it goes in the same group, it
        need not be written at all."""
        group = self._open
        if row is not None:
            if key not in group.rows:
                group.fresh.add(key)
            group.rows[key] = row
        elif key in group.fresh:
            group.fresh.discard(key)
            del group.rows[key]
        else:
            group.rows[key] = None

    def _add_entries(self, id: bytes, first: int, entries: list[Entry]) -> None:
        group = self._open
        present = group.entries.get(id)
        if present is None:
            group.entries[id] = (first, entries)
        else:
            present[1].extend(entries)
        group.size_bytes += _ROW_BYTES * len(entries) + payload_bytes(*entries)

    def _set_state(self, address: Address, name: str, value: bytes | None) -> None:
        self._open.state[keys.state(address, name)] = value
        self.state(address)
        warm = self._warm[address]
        assert warm.state is not None
        size = warm.size_bytes
        old = warm.state.get(name)
        if old is not None:
            size -= len(old) + len(name) + _ROW_BYTES
        if value is None:
            warm.state.pop(name, None)
        else:
            warm.state[name] = value
            size += len(value) + len(name) + _ROW_BYTES
            self._open.size_bytes += len(value)
        warm.group = self._group_number
        self._resize(warm, size)

    def _object(self, address: Address) -> _Warm:
        warm = self._warm.get(address)
        if warm is None:
            warm = self._warm[address] = _Warm()
        else:
            self._warm.move_to_end(address)
        return warm

    def _resize(self, warm: _Warm, size_bytes: int) -> None:
        self._warm_bytes += size_bytes - warm.size_bytes
        warm.size_bytes = size_bytes

    def _evict(self) -> None:
        """Drop the least recently used objects that are over the limits and not being written."""
        while self._warm_bytes > self._state_cache_bytes or len(self._warm) > _WARM_LIMIT:
            address, warm = next(iter(self._warm.items()))
            if warm.group >= self._group_number:
                return
            del self._warm[address]
            self._warm_bytes -= warm.size_bytes


def _add_segment(segments: dict[int, list[Entry]], added: tuple[int, list[Entry]] | None) -> None:
    """Lay a group's entries over those on disk, which may hold the same ones already."""
    if added is not None:
        first, entries = added
        for index in [i for i in segments if i >= first]:
            del segments[index]
        segments[first] = entries


def _segments(id: bytes, first: int, entries: list[Entry], now_ms: int) -> Iterator[Row]:
    part: list[Entry] = []
    size = 0
    for index, entry in enumerate(entries, first):
        if part and size > SEGMENT_BYTES:
            yield keys.journal(id, index - len(part)), encode_segment(part, now_ms)
            part, size = [], 0
        part.append(entry)
        size += _ROW_BYTES + payload_bytes(entry)
    if part:
        yield keys.journal(id, first + len(entries) - len(part)), encode_segment(part, now_ms)
