"""All that is stored of one invocation, in one shape: what a replay somewhere else needs.

Read from a running engine or from a copy of a data directory, sent as JSON (bytes as base64). Pure but
for reading the tables; how it is replayed is the SDK's matter.
"""

from collections.abc import Mapping

import msgspec

from perdure.journal.entries import (
    ClearAllState,
    ClearState,
    Completion,
    Entry,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    SetState,
    StateKeys,
    Value,
    plain,
)
from perdure.journal.ids import format_invocation_id
from perdure.journal.records import Completed, Inboxed, Invocation, Scheduled
from perdure.journal.schema import HandlerType
from perdure.journal.tables import Tables


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation as it is stored now. ``entries`` is empty where the journal was purged."""

    id: str
    service: str
    handler: str
    key: str | None
    seed: int
    attempt: int
    holds_key: bool  # nobody else can have written since it began
    entries: tuple[Entry, ...]
    state: dict[str, bytes]  # of its key, now
    idempotency_key: str | None = None
    scope: str | None = None
    limit_key: str | None = None
    deployment_id: str = ""  # "": handlers of the server's own process
    retry_count: int = 0  # failed attempts since the last new command


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Recording).decode


def record(tables: Tables, id: bytes) -> Recording | None:
    """The recording of one invocation; None where it is unknown."""
    found = tables.invocation(id)
    return None if found is None else _recording(tables, id, found)


def _recording(tables: Tables, id: bytes, found: Invocation) -> Recording:
    return Recording(
        id=format_invocation_id(id),
        service=found.service,
        handler=found.handler,
        key=found.key,
        seed=found.seed,
        attempt=found.attempt,
        holds_key=_holds_key(found),
        entries=tuple(tables.entries(id)),
        state={} if found.key is None else dict(tables.state(found.address)),
        idempotency_key=found.idempotency_key,
        scope=found.scope,
        limit_key=found.limit_key,
        deployment_id=found.deployment_id,
        retry_count=found.retry_count,
    )


def _holds_key(found: Invocation) -> bool:
    if found.type not in (HandlerType.EXCLUSIVE, HandlerType.WORKFLOW):
        return False
    return type(found.status) not in (Scheduled, Inboxed, Completed)


class StateThen(msgspec.Struct, frozen=True):
    """The state of a key when the invocation began. ``unsure``: names whose value is the present one,
    as the journal says nothing about them."""

    values: dict[str, bytes]
    unsure: tuple[str, ...]


def state_at_start(
    entries: tuple[Entry, ...], now: Mapping[str, bytes], *, holds_key: bool
) -> StateThen:
    """What the first read of each name found; else what is there now.

    ``holds_key``: the invocation still has its key for itself, so that what it has not written is as
    it was. A name that it wrote without reading it first is unknown, and left out.
    """
    known, written, cleared = _told(entries)
    values = {name: value for name, value in known.items() if value is not None}
    there = _names(entries)
    rest = [name for name in now if name not in known and name not in written]
    if there is not None:
        rest = [name for name in rest if name in there]
    values.update((name, now[name]) for name in rest)
    sure = holds_key and not cleared
    return StateThen(values, () if sure else tuple(sorted(rest)))


def _told(entries: tuple[Entry, ...]) -> tuple[dict[str, bytes | None], set[str], bool]:
    """What the first read of each name found; the names written before a read; whether all were cleared."""
    known: dict[str, bytes | None] = {}
    written: set[str] = set()
    cleared = False
    results = {each.completion_id: each.result for each in entries if isinstance(each, Completion)}

    def read(name: str, value: bytes | None) -> None:
        if not cleared and name not in written:
            known.setdefault(name, value)

    for entry in entries:
        match plain(entry):
            case GetEagerState(key=name, value=value):
                read(name, value)
            case GetLazyState(completion_id=completion_id, key=name) if completion_id in results:
                found = results[completion_id]
                read(name, found.content if isinstance(found, Value) else None)
            case SetState(key=name) | ClearState(key=name):
                written.add(name)
            case ClearAllState():
                cleared = True
            case _:
                pass
    return known, written, cleared


def _names(entries: tuple[Entry, ...]) -> tuple[str, ...] | None:
    """All names that the state had, where the handler asked for them before it wrote any."""
    results = {each.completion_id: each.result for each in entries if isinstance(each, Completion)}
    for entry in entries:
        match plain(entry):
            case GetEagerStateKeys(keys=names):
                return names
            case GetLazyStateKeys(completion_id=completion_id):
                found = results.get(completion_id)
                return found.keys if isinstance(found, StateKeys) else None
            case SetState() | ClearState() | ClearAllState():
                return None
            case _:
                pass
    return None
