"""One event's decision in the making: it reads through the view and its own writes.

A ``Turn`` lives inside one call of ``partition.step`` and touches nothing outside itself; what it
collected leaves as a ``Step``. If the machine raises, the turn is dropped and nothing has happened.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from perdure.journal import keys
from perdure.journal.entries import (
    Completion,
    Entry,
    Notification,
    Result,
    Signal,
    Verbatim,
    payload_bytes,
)
from perdure.journal.errors import StepTooLarge
from perdure.journal.events import Act, Deliver, Forward, StartAttempt
from perdure.journal.mailbox import Mailbox
from perdure.journal.outbox import Message, Outgoing
from perdure.journal.outbox import encode as encode_outgoing
from perdure.journal.placement import Placement
from perdure.journal.records import Address, Invocation, Promise, Waiter
from perdure.journal.schedules_records import Schedule, decode_schedule
from perdure.journal.schema import Handler

STEP_LIMIT_BYTES = (
    192 << 20
)  # a group that is being filled has up to 64 MiB before it, and takes 320
_FEW = 5
_ABSENT = object()


class View(Protocol):
    """What the machine may read: the tables, with everything that was decided so far."""

    last_arrival: int
    placement: Placement

    def invocation(self, id: bytes) -> Invocation | None: ...
    def entries(self, id: bytes, from_index: int = 0) -> list[Entry]: ...
    def state(self, address: Address) -> Mapping[str, bytes]: ...
    def mailbox(self, address: Address) -> Mailbox: ...
    def promise(self, address: Address, name: str) -> Promise | None: ...
    def promise_names(self, address: Address) -> list[str]: ...
    def timer(self, key: bytes) -> bytes | None: ...
    def row(self, key: bytes) -> bytes | None: ...
    def schedules(self) -> list[Schedule]: ...
    def handler(
        self, service: str, handler: str, deployment_id: str | None = None
    ) -> Handler | None: ...
    def handler_names(self) -> list[str]: ...


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one event leads to. All writes are one atomic change; acts are in order.

    ``entries``: per invocation the index of the first new entry, and the new entries.
    ``state``: address, name, value; None deletes. ``rows``: any other row; None deletes.
    """

    invocations: dict[bytes, Invocation | None]
    entries: dict[bytes, tuple[int, list[Entry]]]
    forgotten_journals: list[bytes]
    state: list[tuple[Address, str, bytes | None]]
    mailboxes: dict[Address, Mailbox]
    promises: dict[tuple[Address, str], Promise | None]
    rows: dict[bytes, bytes | None]
    last_arrival: int
    acts: list[Act]


def check_size(step: Step) -> None:
    """Raises StepTooLarge. A few payloads, in entries or in messages to other partitions, always fit."""
    entry_count = sum([len(new) for _, new in step.entries.values()])
    if entry_count <= _FEW and len(step.rows) <= _FEW:
        return
    size = sum([payload_bytes(*new) for _, new in step.entries.values()])
    size += sum([len(row) for row in step.rows.values() if row is not None])
    if size > STEP_LIMIT_BYTES:
        raise StepTooLarge(
            f"one step writes {size >> 20} MiB for {len(step.entries)} invocations, and at most "
            f"{STEP_LIMIT_BYTES >> 20} MiB fit: what many invocations wait for is written for each of "
            "them. Store it elsewhere, and return a reference; to release those that wait, kill it"
        )


class Turn:
    __slots__ = (
        "_command_counts",
        "_deliveries",
        "_known",
        "_started",
        "acts",
        "ended",
        "entries",
        "forgotten_journals",
        "invocations",
        "last_arrival",
        "mailboxes",
        "now_ms",
        "promises",
        "rows",
        "state_writes",
        "view",
    )

    def __init__(self, view: View, now_ms: int) -> None:
        self.view = view
        self.now_ms = now_ms
        self.invocations: dict[bytes, Invocation | None] = {}
        self.entries: dict[bytes, tuple[int, list[Entry]]] = {}
        self.forgotten_journals: list[bytes] = []
        self.state_writes: list[tuple[Address, str, bytes | None]] = []
        self.mailboxes: dict[Address, Mailbox] = {}
        self.promises: dict[tuple[Address, str], Promise | None] = {}
        self.rows: dict[bytes, bytes | None] = {}
        self.last_arrival = view.last_arrival
        self.acts: list[Act] = []
        self.ended: list[tuple[Waiter, bytes, Result]] = []  # what schedules began, and its result
        self._command_counts: dict[bytes, int] = {}
        self._deliveries: dict[tuple[bytes, int], list[tuple[int, Notification]]] = {}
        self._known: dict[bytes, Invocation | None] = {}  # read or put
        self._started: set[bytes] = set()

    # ---- reads

    def invocation(self, id: bytes) -> Invocation | None:
        """Its counts of entries may be behind by what this turn appends; see ``entry_count``."""
        found = self._known.get(id, _ABSENT)
        if found is _ABSENT:
            found = self._known[id] = self.view.invocation(id)
        return found  # type: ignore[return-value]

    def mailbox(self, address: Address) -> Mailbox:
        box = self.mailboxes.get(address)
        return self.view.mailbox(address) if box is None else box

    def promise(self, address: Address, name: str) -> Promise | None:
        found = self.promises.get((address, name), _ABSENT)
        return self.view.promise(address, name) if found is _ABSENT else found  # type: ignore[return-value]

    def promise_names(self, address: Address) -> list[str]:
        """The promises that this address has a row for."""
        names = dict.fromkeys(self.view.promise_names(address), True)
        for (where, name), promise in self.promises.items():
            if where == address:
                names[name] = promise is not None
        return [name for name, exists in names.items() if exists]

    def entries_from(self, id: bytes, index: int) -> list[Entry]:
        """The journal from entry ``index`` on, with what this turn appended."""
        added = self.entries.get(id)
        if added is None:
            return self.view.entries(id, index)
        first, entries = added
        if first <= index:
            return entries[index - first :]
        return self.view.entries(id, index) + entries

    def notification_count(self, id: bytes) -> int:
        """How many notifications the journal of an invocation that exists holds by now."""
        record = self.invocation(id)
        assert record is not None
        count = record.entry_count - record.command_count
        added = self.entries.get(id)
        return count if added is None else count + len(added[1]) - self._command_counts.get(id, 0)

    def state(self, address: Address) -> dict[str, bytes]:
        """A copy of a key's state."""
        state = dict(self.view.state(address))
        for where, name, value in self.state_writes:
            if where == address:
                if value is None:
                    state.pop(name, None)
                else:
                    state[name] = value
        return state

    def schedule(self, id: bytes) -> Schedule | None:
        raw = self._row(keys.schedule(id))
        return None if raw is None else decode_schedule(raw)

    def schedule_count(self) -> int:
        raw = self._row(keys.SCHEDULE_COUNT)
        return 0 if raw is None else keys.unpack_number(raw)

    def _row(self, key: bytes) -> bytes | None:
        return self.rows[key] if key in self.rows else self.view.row(key)

    # ---- writes

    def put(self, id: bytes, invocation: Invocation | None) -> None:
        self.invocations[id] = self._known[id] = invocation

    def append(self, id: bytes, entry: Entry) -> int:
        """Append to the journal of an invocation that exists; the entry's index."""
        added = self.entries.get(id)
        if added is None:
            invocation = self.invocation(id)
            assert invocation is not None, "append to an invocation that does not exist"
            added = self.entries[id] = (invocation.entry_count, [])
        first, entries = added
        entries.append(entry)
        if type(entry) is not Completion and type(entry) is not Signal:
            self._command_counts[id] = self._command_counts.get(id, 0) + 1
        return first + len(entries) - 1

    def keep_verbatim(self, id: bytes, entry: Verbatim) -> None:
        """Journal the message of the command that was just appended as it came."""
        _, entries = self.entries[id]
        at = next(i for i in reversed(range(len(entries))) if entries[i] is entry.command)
        entries[at] = entry

    def start_attempt(self, id: bytes, attempt: int) -> None:
        """It begins with the whole journal, whatever else this turn appends."""
        self._started.add(id)
        self.acts.append(StartAttempt(id, attempt))

    def deliver(self, id: bytes, attempt: int, notification: Notification) -> None:
        """Append a notification and give it to the open attempt."""
        index = self.append(id, notification)
        if id in self._started:
            return
        waiting = self._deliveries.get((id, attempt))
        if waiting is None:
            self._deliveries[(id, attempt)] = [(index, notification)]
        else:
            waiting.append((index, notification))

    def is_elsewhere(self, id: bytes) -> bool:
        """Whether the invocation or schedule belongs to another partition."""
        return self.view.placement.elsewhere(id) is not None

    def post(self, sender: bytes, to: bytes, message: Message) -> None:
        """Tell the partition that ``to`` belongs to, in order and once."""
        destination = self.view.placement.elsewhere(to)
        assert destination is not None, "what is here needs no message"
        counter = keys.outbox_last(destination)
        last = self._row(counter)
        seq = 1 if last is None else keys.unpack_number(last) + 1
        self.rows[counter] = keys.pack_number(seq)
        row = encode_outgoing(Outgoing(sender[:8], to, message))
        self.rows[keys.outbox(destination, seq)] = row
        self.acts.append(Forward(destination, seq, row))

    def forget_journal(self, id: bytes) -> None:
        self.entries.pop(id, None)
        self.forgotten_journals.append(id)

    def set_state(self, address: Address, name: str, value: bytes | None) -> None:
        self.state_writes.append((address, name, value))

    def next_arrival(self) -> int:
        self.last_arrival += 1
        return self.last_arrival

    def set_timer(
        self, due_ms: int, kind: keys.TimerKind, id: bytes, invocation: Invocation, number: int = 0
    ) -> None:
        """A timer belongs to this life of the invocation: its value is the time of creation."""
        self.rows[keys.timer(due_ms, kind, id, number)] = keys.pack_number(invocation.created_at_ms)

    def clear_timer(self, due_ms: int, kind: keys.TimerKind, id: bytes, number: int = 0) -> None:
        self.rows[keys.timer(due_ms, kind, id, number)] = None

    # ---- the end

    def close(self) -> Step:
        """Fold the appended entries into their invocations, and hand everything out."""
        for id, (first, entries) in self.entries.items():
            invocation = self.invocation(id)
            if invocation is None:
                continue
            commands = self._command_counts.get(id, 0)
            self.invocations[id] = msgspec.structs.replace(
                invocation,
                entry_count=first + len(entries),
                command_count=invocation.command_count + commands,
                modified_at_ms=self.now_ms,
            )
        for (id, attempt), delivered in self._deliveries.items():
            self.acts.append(Deliver(id, attempt, tuple(delivered)))
        return Step(
            self.invocations,
            self.entries,
            self.forgotten_journals,
            self.state_writes,
            self.mailboxes,
            self.promises,
            self.rows,
            self.last_arrival,
            self.acts,
        )
