"""How many unfinished invocations are pinned to each deployment: counted once, then kept by what changes.

The first count passes all rows, in parts; what changes meanwhile is known by its id and counted at the end.
Pure; it is told of every commit group before the group is written.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from perdure.journal import keys
from perdure.journal.entries import Record
from perdure.journal.records import Completed, Invocation
from perdure.journal.store import Row

_COMPLETED: Final = "completed"
_END: Final = b"\xff"  # behind every id's row


class _Head(Record, frozen=True):
    """An invocation's record up to its deployment; what is skipped is not decoded."""

    service: msgspec.Raw
    handler: msgspec.Raw
    key: msgspec.Raw
    type: msgspec.Raw
    status: msgspec.Raw
    created_at_ms: msgspec.Raw
    modified_at_ms: msgspec.Raw
    seed: msgspec.Raw
    invoked_by: msgspec.Raw
    entry_count: int = 1
    command_count: int = 1
    attempt: msgspec.Raw = msgspec.Raw()
    arrival: msgspec.Raw = msgspec.Raw()
    waiters: msgspec.Raw = msgspec.Raw()
    idempotency_key: msgspec.Raw = msgspec.Raw()
    execution_time_ms: msgspec.Raw = msgspec.Raw()
    completion_retention_ms: msgspec.Raw = msgspec.Raw()
    journal_retention_ms: msgspec.Raw = msgspec.Raw()
    retry_count: msgspec.Raw = msgspec.Raw()
    failed_attempts: msgspec.Raw = msgspec.Raw()
    last_failure: msgspec.Raw = msgspec.Raw()
    scope: msgspec.Raw = msgspec.Raw()
    limit_key: msgspec.Raw = msgspec.Raw()
    deployment_id: str = ""

    @property
    def is_completed(self) -> bool:
        """Read off the status's tag, so that no result is decoded."""
        raw = memoryview(self.status)
        size = raw[1] & 0x1F  # a short string in a short array
        return bytes(raw[2 : 2 + size]) == _COMPLETED.encode()


_decode_head: Final = msgspec.msgpack.Decoder(_Head).decode


def pin_of(record: Invocation | None) -> str | None:
    """The deployment that has to finish it; None where none has to."""
    if record is None or not record.pinned or type(record.status) is Completed:
        return None
    return record.deployment_id


def pins_in(rows: Iterable[Row]) -> list[tuple[bytes, str]]:
    """Row key and deployment of those rows of the table of invocations that have a pin."""
    found = []
    for key, value in rows:
        head = _decode_head(value)
        is_pinned = head.command_count > 1 or head.deployment_id != ""
        if is_pinned and not head.is_completed:
            found.append((key, head.deployment_id))
    return found


class Pins:
    """``counts`` by deployment hold once ``is_whole``."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.is_whole = False
        self._position = b""  # rows before this key are counted
        self._changed: dict[bytes, str | None] = {}  # by row key, of what is not

    def note(
        self,
        written: Mapping[bytes, Invocation | None],
        before: Callable[[bytes], Invocation | None],
    ) -> None:
        """A commit group is about to be written. ``before``: a record as it is on disk until then."""
        for id, record in written.items():
            key = keys.invocation(id)
            if key in self._changed or key >= self._position:
                self._changed[key] = pin_of(record)
            else:
                self._add(pin_of(before(id)), -1)
                self._add(pin_of(record), 1)

    def count(self, found: Iterable[tuple[bytes, str]], then: bytes | None) -> None:
        """Rows that were read after the last ones. ``then``: where the next begin; None at the end."""
        for key, deployment_id in found:
            if key not in self._changed:
                self._add(deployment_id, 1)
        if then is not None:
            self._position = then
            return
        for pin in self._changed.values():
            self._add(pin, 1)
        self._changed = {}
        self._position, self.is_whole = _END, True

    def _add(self, deployment_id: str | None, number: int) -> None:
        if deployment_id is None:
            return
        now = self.counts.get(deployment_id, 0) + number
        if now:
            self.counts[deployment_id] = now
        else:
            self.counts.pop(deployment_id, None)
