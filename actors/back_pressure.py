"""Back-pressure of one partition: what wants in waits while the open commit group is large.

Requests from outside wait first, then what attempts say. Nothing is dropped, and nothing is decided here.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from perdure.actors.commits import Commits
from perdure.actors.messages import Burst
from perdure.journal.errors import Overloaded, StoreError
from perdure.journal.store import Store
from perdure.journal.tables import Tables

_FULL_BYTES = 16 << 20  # an open group of this size takes no more from outside
_ASK_DISK_INTERVAL_S = 1.0
_HOLD_BYTES = 64 << 20  # nor from handlers; a burst adds at most twice its own 64 MiB


class BackPressure:
    """``take`` gets the bursts, in order. All methods run on the loop."""

    def __init__(
        self, store: Store, tables: Tables, commits: Commits, take: Callable[[Burst], None]
    ) -> None:
        self._store = store
        self._disk_has_room, self._ask_disk_at_s = True, 0.0
        self._tables = tables
        self._commits = commits
        self._take = take
        self._held: deque[Burst] = deque()
        self._unready: list[Callable[[], None]] = []  # who wants to say more
        self._releasing: asyncio.Task[None] | None = None

    async def admit(self) -> None:
        """``room`` for new work. Raises Overloaded where the disk is nearly full."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._ask_disk_at_s:
            self._ask_disk_at_s = now_s + _ASK_DISK_INTERVAL_S
            self._disk_has_room = self._store.has_room()
        if not self._disk_has_room:
            raise Overloaded("the disk is nearly full; free some space, nothing is lost")
        await self.room()

    async def room(self) -> None:
        """Wait while the open group is too large to take more from outside."""
        while self._tables.open_bytes > _FULL_BYTES:
            await self._commits.flush()

    def hear(self, burst: Burst) -> None:
        """An attempt emitted frames; they wait while the open group is large."""
        if self._held or self._tables.open_bytes > _HOLD_BYTES:
            self._held.append(burst)
            self._release_soon()
        else:
            self._take(burst)

    def ready(self, go_on: Callable[[], None]) -> bool:
        """Whether an attempt may say more now; if not, ``go_on`` is called when it may."""
        if not self._held and self._tables.open_bytes <= _FULL_BYTES:
            return True
        self._unready.append(go_on)
        self._release_soon()
        return False

    def _release_soon(self) -> None:
        if self._releasing is None:
            self._releasing = asyncio.get_running_loop().create_task(self._release_held())

    async def _release_held(self) -> None:
        try:
            while self._held or self._unready:
                await self._commits.flush()
                while self._held and self._tables.open_bytes <= _HOLD_BYTES:
                    self._take(self._held.popleft())
                if not self._held:
                    unready, self._unready = self._unready, []
                    for go_on in unready:
                        go_on()
        except StoreError:
            self._held.clear()  # the partition is over
            self._unready.clear()
        finally:
            self._releasing = None
