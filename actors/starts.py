"""From an invocation's record and tables to what an attempt of it begins with: one snapshot.

Pure, but for reading the tables. Rules: service protocol 5.3, 5.4.
"""

from perdure.actors.registry import Place
from perdure.journal.attempt import Start
from perdure.journal.records import Invocation
from perdure.journal.schema import Handler
from perdure.journal.tables import Tables
from perdure.journal.trace import of_attempt

EAGER_STATE_BYTES = 32 << 20  # keys and values that are sent along; past it they are asked for


def make_start(tables: Tables, id: bytes, record: Invocation, place: Place, now_ms: int) -> Start:
    state, complete = _state(tables, record, place.handler)
    if place.protocol_version:
        state, complete = _cut(state, complete)
    return Start(
        id,
        record.attempt,
        place.handler,
        record.key or "",
        tuple(tables.entries(id)),
        state,
        complete,
        record.seed,
        record.retry_count,
        max(now_ms - record.modified_at_ms, 0),
        record.idempotency_key,
        record.scope,
        record.limit_key,
        place.deployment_id,
        place.protocol_version,
        "" if record.trace is None else of_attempt(record.trace, id, record.attempt),
    )


def _state(tables: Tables, record: Invocation, handler: Handler) -> tuple[dict[str, bytes], bool]:
    """The state that an attempt begins with, and whether that is all."""
    if record.key is None:
        return {}, False
    if not handler.lazy_state:
        return dict(tables.state(record.address)), True
    if not handler.eager_keys:
        return {}, False
    state = tables.state(record.address)
    return {k: state[k] for k in handler.eager_keys if k in state}, False


def _cut(state: dict[str, bytes], complete: bool) -> tuple[dict[str, bytes], bool]:
    """What fits in one message."""
    size = sum(len(key) * 4 + len(value) for key, value in state.items())
    if size <= EAGER_STATE_BYTES:
        return state, complete
    kept, size = {}, 0
    for key, value in state.items():
        size += len(key.encode()) + len(value)
        if size > EAGER_STATE_BYTES:
            break
        kept[key] = value
    return kept, complete and len(kept) == len(state)
