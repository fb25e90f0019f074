"""Address to object actor: get or create, passivate the idle, count how often each one failed.

Only the partition actor uses it. Nothing here is durable: an actor that is gone is made again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import msgspec
from thespian.actors import ActorExitRequest

from perdure.actors.cell import Cell
from perdure.journal.records import Address


class Intensity:
    """At most ``limit`` failures of one thing within ``window_s`` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self.window_s = window_s
        self._failures: dict[Address, deque[float]] = {}

    def exceeded(self, address: Address, now_s: float) -> bool:
        """Note one failure; whether that is one too many."""
        recent = self._failures.setdefault(address, deque())
        recent.append(now_s)
        while recent[0] <= now_s - self.window_s:
            recent.popleft()
        if len(recent) <= self.limit:
            return False
        del self._failures[address]  # it is quarantined; when resumed it begins anew
        return True

    def forget_old(self, now_s: float) -> None:
        for address in [a for a, f in self._failures.items() if f[-1] <= now_s - self.window_s]:
            del self._failures[address]


class PastFailures(msgspec.Struct, frozen=True):
    """Of one object's actors, since the process began."""

    count: int = 0
    last_error: str = ""


_NONE = PastFailures()
_MOST_REMEMBERED = 1_000  # objects whose failures are told in the supervision tree


class Directory:
    """The object actors that exist, least recently used first."""

    def __init__(self, spawn: Callable[[Address], Cell], limit: int) -> None:
        self._spawn = spawn
        self._limit = limit
        self._actors: OrderedDict[Address, Cell] = OrderedDict()
        self._addresses: dict[Cell, Address] = {}
        self._used_at: dict[Address, float] = {}
        self._failures: OrderedDict[Address, PastFailures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._actors)

    def get(self, address: Address, now_s: float) -> Cell:
        """The object's actor; a new one where there is none."""
        cell = self._actors.get(address)
        if cell is None:
            cell = self._actors[address] = self._spawn(address)
            self._addresses[cell] = address
        else:
            self._actors.move_to_end(address)
        self._used_at[address] = now_s
        return cell

    def forget(self, cell: Cell) -> Address | None:
        """The actor ended; its address, if it was a current one."""
        address = self._addresses.pop(cell, None)
        if address is not None:
            del self._actors[address], self._used_at[address]
        return address

    def iter_actors(self) -> Iterator[tuple[Address, Cell]]:
        return iter(self._actors.items())

    def note_failure(self, address: Address, error: BaseException) -> None:
        """For ``past_failures``; only the newest are remembered."""
        count = self.past_failures(address).count + 1
        self._failures[address] = PastFailures(count, repr(error))
        self._failures.move_to_end(address)
        if len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def past_failures(self, address: Address) -> PastFailures:
        return self._failures.get(address, _NONE)

    def passivate(self, before_s: float, busy: Callable[[Cell], bool]) -> int:
        """End actors without work that were last used before ``before_s``, or are over the limit."""
        ended = 0
        for _, cell in list(self._iter_stale(before_s)):
            if busy(cell):
                continue
            self.forget(cell)
            cell.deliver(ActorExitRequest(), cell.parent)
            ended += 1
        return ended

    def _iter_stale(self, before_s: float) -> Iterator[tuple[Address, Cell]]:
        excess = len(self._actors) - self._limit
        for index, (address, cell) in enumerate(self._actors.items()):
            if self._used_at[address] >= before_s and index >= excess:
                return
            yield address, cell
