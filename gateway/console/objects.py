"""Objects for a page: which there are, the state and mailbox of one, timers that are due.

Reads committed rows in a thread, bounded in rows, bytes and time. A state is changed elsewhere
(``api``), by the same request that the admin API makes.
"""

import time
from itertools import islice, takewhile
from typing import Any, Final

from perdure.gateway.console import listing, shapes
from perdure.gateway.console.source import Reads
from perdure.journal import keys, records
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import Address, Completed, Queued
from perdure.journal.state_version import state_version

EDITABLE_BYTES: Final = 64 << 10  # a larger value is shown in part and cannot be edited in the page
_MOST_ROWS: Final = 20_000  # of one object's state
_MOST_SHOWN: Final = 500
_MOST_SHOWN_BYTES: Final = 4 << 20
_SCAN_S: Final = 0.3
_NAMES: Final = 12  # of state keys beside an object in a list
_MAILBOX: Final = 200
_BITE: Final = 500  # state keys read at once
_STATE_STOP: Final = keys.INBOX
_TIMER_STOP: Final = keys.EXPIRY
_KINDS: Final = {
    keys.TimerKind.START: "start",
    keys.TimerKind.SLEEP: "sleep",
    keys.TimerKind.RETRY: "retry",
}


class BadCursor(ValueError):
    """A cursor that no page gave out."""


def objects(
    store: Reads, service: str | None, start: bytes | None, limit: int
) -> tuple[list[dict[str, Any]], bytes | None]:
    """Objects that have state, in store order (by the key's hash), and where to go on."""
    cursor = start or keys.STATE
    stop_s = time.monotonic() + _SCAN_S
    found: list[dict[str, Any]] = []
    while len(found) < limit and time.monotonic() < stop_s:
        rows = store.scan_keys(cursor, _STATE_STOP, _BITE)
        index = 0
        while index < len(rows) and len(found) < limit:
            address, _ = keys.split_state(rows[index])
            begin, behind = keys.state_range(address)
            own = _beginning_with(begin, rows, index)
            is_cut = index + len(own) == _BITE
            if is_cut and index > 0 and len(own) <= _NAMES:
                break  # the next bite begins with it
            index, cursor = index + len(own), behind
            if service in (None, address[0]):
                found.append(_object(address, own))
        if len(rows) < _BITE and index == len(rows):
            return found, None
    return found, cursor


def _beginning_with(begin: bytes, rows: list[bytes], index: int) -> list[bytes]:
    return list(takewhile(lambda key: key.startswith(begin), islice(rows, index, None)))


def _object(address: Address, rows: list[bytes]) -> dict[str, Any]:
    names = [keys.state_name(key, address) for key in rows[:_NAMES]]
    shown: dict[str, Any] = {"service": address[0], "key": address[1], "names": names}
    if len(rows) > _NAMES:
        shown["has_more"] = True
    return shown


def read_state(store: Reads, address: Address) -> dict[str, bytes] | None:
    """The whole state of one object, or None where it has too many keys for a page."""
    rows = store.scan(*keys.state_range(address), _MOST_ROWS + 1)
    if len(rows) > _MOST_ROWS:
        return None
    return {keys.state_name(key, address): value for key, value in rows}


def one(store: Reads, address: Address) -> dict[str, Any]:
    """State, its version, mailbox, and promises of one object or workflow key."""
    state = read_state(store, address)
    shown: dict[str, Any] = {"service": address[0], "key": address[1]}
    if state is None:
        shown |= {"state": [], "version": None, "is_cut": True}
    else:
        shown |= {"state": _values(state), "version": state_version(state)}
        shown["is_cut"] = len(state) > len(shown["state"])
        shown["size"] = sum(len(value) for value in state.values())
    shown |= {"mailbox": mailbox(store, address), "promises": _promises(store, address)}
    return shown


def _values(state: dict[str, bytes]) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = []
    left = _MOST_SHOWN_BYTES
    for name in sorted(state)[:_MOST_SHOWN]:
        limit = min(EDITABLE_BYTES, max(left, shapes.PREVIEW_BYTES))
        left -= min(len(state[name]), limit)
        values.append({"name": name, **shapes.payload(state[name], limit)})
    return values


def mailbox(store: Reads, address: Address) -> dict[str, Any]:
    """Who holds the key's lock and who waits for it, in order."""
    rows = store.scan(*keys.inbox_range(address), _MAILBOX + 1)
    queued = [records.decode_inbox_entry(value) for _, value in rows[:_MAILBOX]]
    ids = [entry.invocation for entry in queued if isinstance(entry, Queued)]
    found = listing.some(store, ids)
    shown: list[dict[str, Any]] = []
    for entry in queued:
        if not isinstance(entry, Queued):
            shown.append({"state_patch": len(entry.new_state)})
        elif entry.invocation in found:
            shown.append(shapes.row(entry.invocation, found[entry.invocation]))
        else:
            shown.append({"id": format_invocation_id(entry.invocation), "status": "unknown"})
    return {"entries": shown, "has_more": len(rows) > _MAILBOX}


def _promises(store: Reads, address: Address) -> list[dict[str, Any]]:
    start, stop = keys.promise_range(address)
    shown = []
    for key, value in store.scan(start, stop, _MOST_SHOWN):
        promise = records.decode_promise(value)
        each: dict[str, Any] = {
            "name": key[len(start) :].decode(),
            "waiters": len(promise.waiters),
        }
        if promise.result is not None:
            each["result"] = shapes.outcome(promise.result)
        shown.append(each)
    return shown


def timers(
    store: Reads, start: bytes | None, limit: int
) -> tuple[list[dict[str, Any]], bytes | None]:
    """Timers by due time, soonest first, each with its invocation, and where to go on."""
    rows = store.scan(start or keys.timers_from(0), _TIMER_STOP, limit)
    split = [keys.split_timer(key) for key, _ in rows]
    found = listing.some(store, {id for _, _, id, _ in split})
    shown = []
    for due_ms, kind, id, completion_id in split:
        record = found.get(id)
        each: dict[str, Any] = {"due": due_ms, "kind": _KINDS[kind], "completion": completion_id}
        if record is None or isinstance(record.status, Completed):
            each["is_obsolete"] = True  # it fires into nothing
        each["invocation"] = (
            {"id": format_invocation_id(id)} if record is None else shapes.row(id, record)
        )
        shown.append(each)
    return shown, rows[-1][0] + b"\x00" if len(rows) == limit else None


def cursor_of(text: str, tag: bytes) -> bytes:
    """A cursor as we gave it out. Raises BadCursor for anything else."""
    try:
        cursor = bytes.fromhex(text)
    except ValueError:
        cursor = b""
    if cursor[:1] != tag or len(cursor) > 4 * keys.MAX_TEXT_BYTES:
        raise BadCursor("a cursor is what the page before said")
    return cursor
