"""What the last commits changed, for who looks at a running partition: newest ids, and how many ended.

Bounded and in memory only; after a restart it begins anew. Nothing is decided by it.
"""

from collections import OrderedDict

from perdure.journal.entries import Failure
from perdure.journal.records import Completed, Invocation

LIMIT = 4096  # ids that are remembered


class Lately:
    """Noted per invocation and commit group, once it is durable."""

    __slots__ = ("_ids", "completed_count", "failed_count")

    def __init__(self) -> None:
        self._ids: OrderedDict[bytes, int] = OrderedDict()  # to modified_at_ms
        self.completed_count = 0  # with any result, failures included
        self.failed_count = 0

    def note(self, id: bytes, invocation: Invocation | None) -> None:
        ids = self._ids
        if invocation is None:
            ids.pop(id, None)
            return
        status = invocation.status
        if type(status) is Completed:
            self.completed_count += 1
            if type(status.result) is Failure:
                self.failed_count += 1
        ids[id] = invocation.modified_at_ms
        ids.move_to_end(id)
        if len(ids) > LIMIT:
            ids.popitem(last=False)

    def newest(self) -> list[tuple[int, bytes]]:
        """Moment (ms) and raw id, the one that changed last first."""
        return [(moment_ms, id) for id, moment_ms in reversed(self._ids.items())]
