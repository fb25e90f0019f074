"""What must hold of the tables whatever happened: checks apart from any scenario.

``check_view`` looks at what was decided, ``check_rows`` at what is durable. Each raises
AssertionError. Rules: design 3, reliability 2.
"""

from perdure.journal import keys
from perdure.journal.entries import Completion, Entry, Input, Sleep, decode_segment, is_command
from perdure.journal.keys import TimerKind
from perdure.journal.mailbox import waiting
from perdure.journal.records import (
    Address,
    BackingOff,
    Completed,
    Inboxed,
    Invocation,
    Paused,
    Queued,
    Running,
    Scheduled,
    Suspended,
    decode_inbox_entry,
    decode_invocation,
)
from perdure.journal.schema import HandlerType
from perdure.journal.tables import Tables

HOLDS_LOCK = (Running, BackingOff, Suspended, Paused)
Rows = dict[bytes, bytes]


def table(rows: Rows, tag: bytes) -> Rows:
    return {key: value for key, value in rows.items() if key[:1] == tag}


# ---- what was decided ----------------------------------------------------------------------------


def check_view(tables: Tables, known: set[bytes]) -> None:
    """``known``: every id that was ever heard of."""
    lines: dict[Address, list[tuple[int, bytes]]] = {}
    holders: dict[Address, list[bytes]] = {}
    for id in known:
        record = tables.invocation(id)
        journal = tables.entries(id)  # raises where it has a hole
        if record is None:
            assert journal == [], "a journal without an invocation"
            continue
        check_journal(record, journal)
        if record.type is HandlerType.EXCLUSIVE:
            if type(record.status) in HOLDS_LOCK:
                holders.setdefault(record.address, []).append(id)
            elif type(record.status) is Inboxed:
                lines.setdefault(record.address, []).append((record.arrival, id))
    for address in holders.keys() | lines.keys():
        box = tables.mailbox(address)
        assert box.holder is not None, "invocations wait for a lock that nobody holds"
        holding = [box.holder[1].invocation] if type(box.holder[1]) is Queued else []
        assert holders.get(address, []) == holding, "the lock's holder is another one"
        queued = [(n, e.invocation) for n, e in waiting(box) if type(e) is Queued]
        assert queued == sorted(lines.get(address, [])), "the inbox is not in order of arrival"


def check_journal(record: Invocation, journal: list[Entry]) -> None:
    if type(record.status) is Completed and not journal:
        return  # its retention is over
    assert len(journal) == record.entry_count
    commands = [e for e in journal if is_command(e)]
    assert len(commands) == record.command_count
    assert type(journal[0]) is Input
    assert sum(type(e) is Input for e in journal) == 1
    done = [e.completion_id for e in journal if type(e) is Completion]
    assert len(done) == len(set(done)), "a command was completed twice"


# ---- what is durable -----------------------------------------------------------------------------


def check_rows(rows: Rows) -> None:
    """Every row belongs to an invocation in the right status, and every status has its rows."""
    records = {k[1:]: decode_invocation(v) for k, v in table(rows, keys.INVOCATION).items()}
    _check_active(rows, records)
    _check_inbox(rows, records)
    _check_timers(rows, records)
    _check_expiries(rows, records)
    for key in table(rows, keys.JOURNAL):
        assert key[1:25] in records, "a journal without an invocation"


def _check_active(rows: Rows, records: dict[bytes, Invocation]) -> None:
    running = {id for id, record in records.items() if type(record.status) is Running}
    assert {key[1:] for key in table(rows, keys.ACTIVE)} == running


def _check_inbox(rows: Rows, records: dict[bytes, Invocation]) -> None:
    there = set()
    for key, value in table(rows, keys.INBOX).items():
        entry = decode_inbox_entry(value)
        if type(entry) is Queued:
            there.add((entry.invocation, keys.inbox_arrival(key)))
    assert there == {
        (id, record.arrival)
        for id, record in records.items()
        if record.type is HandlerType.EXCLUSIVE and type(record.status) in (*HOLDS_LOCK, Inboxed)
    }


def _check_timers(rows: Rows, records: dict[bytes, Invocation]) -> None:
    needed: Rows = {}
    for id, record in records.items():
        status, life = record.status, keys.pack_number(record.created_at_ms)
        if type(status) is Scheduled:
            needed[keys.timer(status.start_at_ms, TimerKind.START, id)] = life
        elif type(status) is BackingOff:
            needed[keys.timer(status.retry_at_ms, TimerKind.RETRY, id)] = life
    for id in records:
        journal = [
            entry
            for key, value in sorted(table(rows, keys.JOURNAL).items())
            if key[1:25] == id
            for entry in decode_segment(value)
        ]
        done = {e.completion_id for e in journal if type(e) is Completion}
        for entry in journal:
            if type(entry) is Sleep and entry.completion_id not in done:
                life = keys.pack_number(records[id].created_at_ms)
                key = keys.timer(entry.wake_up_at_ms, TimerKind.SLEEP, id, entry.completion_id)
                if type(records[id].status) is not Completed or key in rows:
                    needed[key] = life
    assert table(rows, keys.TIMER) == needed


def _check_expiries(rows: Rows, records: dict[bytes, Invocation]) -> None:
    due = {keys.split_expiry(key) for key in table(rows, keys.EXPIRY)}
    results = {(d, id) for d, kind, id in due if kind is keys.ExpiryKind.INVOCATION}
    assert results == {
        (record.status.expires_at_ms, id)
        for id, record in records.items()
        if type(record.status) is Completed
    }
    for _, _, id in due:
        assert id in records, "an expiry without an invocation"
