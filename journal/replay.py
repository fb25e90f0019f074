"""The handler's side of a journal: matches what user code does against what is recorded.

Pure: no I/O, no asyncio, no clock. One ``Replay`` serves one attempt. It allocates ids, compares
or appends commands, keeps the attempt's view of the state, and hands notifications to awaits in
journal order, one by one: the same way live and in replay, so that races decide alike every time.
Rules: service protocol 3.6 (ids), 5.4 (state), 5.11 (cancel), 6 (replay).
"""

from collections import deque
from collections.abc import Collection
from enum import Enum, auto
from typing import Final, TypeAlias, cast

from perdure.journal import mismatch
from perdure.journal.attempt import Awaiting, Combinator, Frame, ProposeRun, Start
from perdure.journal.entries import (
    CANCEL_SIGNAL,
    FIRST_AWAKEABLE_SIGNAL,
    ClearAllState,
    ClearState,
    Command,
    Completion,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    Input,
    InvocationId,
    Notification,
    OneWayCall,
    Outcome,
    Output,
    Result,
    SendSignal,
    SetState,
    Signal,
    SignalResult,
    Sleep,
    Verbatim,
    Void,
    type_name,
)

Handle: TypeAlias = int | str
"""What an await waits for: a completion id, ``-index`` of a signal, or a signal's name."""

_CANCEL: Final = -CANCEL_SIGNAL


_EMPTY: Final[deque[Notification]] = deque()  # shared by attempts that were given nothing yet


class Progress(Enum):
    READY = auto()  # what is awaited is there
    BLOCKED = auto()  # every notification is consumed, and it is not
    CANCELLED = auto()  # a cancel signal came first


class Pending(Enum):
    """Stands for the value of a read that the runtime has to answer."""

    PENDING = auto()


PENDING: Final = Pending.PENDING


class Replay:
    """One attempt's journal. After a JournalMismatch it must not be used any more."""

    __slots__ = (
        "_call_ids",
        "_held_cancels",
        "_ids",
        "_next_completion_id",
        "_next_signal",
        "_queue",
        "_ready",
        "_recorded",
        "_start",
        "command_index",
        "given_count",
        "outgoing",
        "recorded_count",
        "seen_count",
        "state",
        "state_complete",
        "taken_count",
    )

    def __init__(self, start: Start) -> None:
        entries = start.entries
        self._start = start
        self._queue: deque[Notification] = _EMPTY
        if len(entries) == 1:
            self._recorded = cast(tuple[Command, ...], entries)
        else:
            self._recorded = self._split(entries)
        self.recorded_count = len(self._recorded)
        self.command_index = 1  # of the next command; 0 is the Input
        self.outgoing: list[Frame] = []
        self.seen_count = len(entries)
        self.given_count = len(entries) - self.recorded_count  # notifications so far
        self.state = start.state
        self.state_complete = start.state_complete
        self._next_completion_id = 1
        self._next_signal = FIRST_AWAKEABLE_SIGNAL
        self._ready: dict[Handle, Result | deque[SignalResult]] = {}
        self._call_ids: tuple[int, ...] | list[int] = ()
        self._ids: dict[Handle, InvocationId] = {}
        self._held_cancels = 0
        self.taken_count = 0  # results that were handed out

    def _split(self, entries: tuple[object, ...]) -> tuple[Command, ...]:
        commands: list[Command] = []
        self._queue = deque()
        for entry in entries:
            if type(entry) is Completion or type(entry) is Signal:
                self._queue.append(entry)
            else:
                commands.append(entry.command if type(entry) is Verbatim else cast(Command, entry))
        return tuple(commands)

    @property
    def input(self) -> Input:
        first = self._recorded[0]
        assert type(first) is Input, "entry 0 of a journal is its Input"
        return first

    @property
    def replaying(self) -> bool:
        """Whether recorded commands are left to match."""
        return self.command_index < self.recorded_count

    @property
    def wrote_new(self) -> bool:
        """Whether this attempt has issued a command that no earlier one had."""
        return self.command_index > self.recorded_count

    # ---- commands -------------------------------------------------------------------------------

    def new_completion_id(self) -> int:
        allocated = self._next_completion_id
        self._next_completion_id = allocated + 1
        return allocated

    def new_awakeable(self) -> int:
        """The signal index of a new awakeable."""
        allocated = self._next_signal
        self._next_signal = allocated + 1
        return allocated

    def issue(self, command: Command) -> None:
        """Match ``command`` with the recorded one, or append it. Raises JournalMismatch."""
        index = self.command_index
        if index < self.recorded_count:
            recorded = self._recorded[index]
            if recorded != command and not _equivalent(recorded, command):
                raise mismatch.diverged(self._start.handler, index, recorded, command)
        else:
            self.outgoing.append(command)
        self.command_index = index + 1

    def track_call(self, id_completion_id: int) -> None:
        """Remember a Call that was issued, so that a cancellation reaches it."""
        if isinstance(self._call_ids, list):
            self._call_ids.append(id_completion_id)
        else:
            self._call_ids = [id_completion_id]

    def finish(self, output: Output, where: str) -> None:
        """Issue the last command. ``where``: file and line of the handler, for the explanation."""
        index = self.command_index
        if index < self.recorded_count and type(self._recorded[index]) is not Output:
            raise mismatch.ended_early(self._start.handler, index, self._recorded[index], where)
        if index < self.recorded_count and self._recorded[index] != output:
            raise mismatch.diverged(
                self._start.handler, index, self._recorded[index], output, where
            )
        self.issue(output)

    # ---- state ----------------------------------------------------------------------------------

    def get_state(self, key: str, name: str = "") -> tuple[int, bytes | Pending | None]:
        """Completion id, and the value: None where the key is absent, PENDING where unknown."""
        completion_id = self._next_completion_id
        self._next_completion_id = completion_id + 1
        index = self.command_index
        if index < self.recorded_count:
            recorded = self._recorded[index]
            if type(recorded) is GetEagerState and (recorded.key, recorded.name) == (key, name):
                self.command_index = index + 1
                return completion_id, recorded.value
            self.issue(GetLazyState(completion_id, key, name))
            return completion_id, PENDING
        value = self.state.get(key)
        self.command_index = index + 1
        if value is None and not self.state_complete:
            self.outgoing.append(GetLazyState(completion_id, key, name))
            return completion_id, PENDING
        self.outgoing.append(GetEagerState(key, value, name))
        return completion_id, value

    def get_state_keys(self, name: str = "") -> tuple[int, tuple[str, ...] | Pending]:
        """Completion id, and the keys in order, or PENDING."""
        completion_id = self.new_completion_id()
        index = self.command_index
        if index < self.recorded_count:
            recorded = self._recorded[index]
            if type(recorded) is GetEagerStateKeys and recorded.name == name:
                self.command_index = index + 1
                return completion_id, recorded.keys
        elif self.state_complete:
            keys = tuple(sorted(self.state))
            self.issue(GetEagerStateKeys(keys, name))
            return completion_id, keys
        self.issue(GetLazyStateKeys(completion_id, name))
        return completion_id, PENDING

    def set_state(self, key: str, value: bytes, name: str = "") -> None:
        self.issue(SetState(key, value, name))
        self.state[key] = value

    def clear_state(self, key: str, name: str = "") -> None:
        self.issue(ClearState(key, name))
        self.state.pop(key, None)  # where the map is partial, the key is asked for again

    def clear_all_state(self, name: str = "") -> None:
        self.issue(ClearAllState(name))
        self.state.clear()
        self.state_complete = True

    # ---- notifications --------------------------------------------------------------------------

    def deliver(self, index: int, notification: Notification) -> None:
        """Take in a notification; ``index``: its place in the journal."""
        self._enqueue(notification)
        if index >= self.seen_count:
            self.seen_count = index + 1

    def take_proposed(self, completion_id: int, result: Outcome) -> None:
        """Take in a run's result ahead of the runtime, which is told after what it was taken."""
        self.outgoing.append(ProposeRun(completion_id, result, self.given_count))
        self._enqueue(Completion(completion_id, result))

    def _enqueue(self, notification: Notification) -> None:
        if self._queue is _EMPTY:
            self._queue = deque()
        self._queue.append(notification)
        self.given_count += 1

    def has(self, handle: Handle) -> bool:
        """Whether an await has already come across a result for ``handle``."""
        return handle in self._ready or handle in self._ids

    def ready_among(self, handles: Collection[Handle]) -> list[Handle]:
        """Those with a result that nobody took; costs what is ready, not what is asked for."""
        if len(handles) <= len(self._ready):
            return [each for each in handles if each in self._ready]
        return [each for each in self._ready if each in handles]

    def take(self, handle: Handle) -> Result:
        """The result for ``handle``, which must be there. Ids of invocations stay available."""
        if handle in self._ids:
            return self._ids[handle]
        self.taken_count += 1
        found = self._ready[handle]
        if isinstance(found, deque):
            result = found.popleft()
            if not found:
                del self._ready[handle]
            return result
        del self._ready[handle]
        return found

    def settle(self, missing: set[Handle], all_of: bool) -> bool:
        """Drop from ``missing`` what is there; whether that satisfies the await.

        Ids of invocations are only ever awaited alone.
        """
        if not self._ready and not self._ids:
            return all_of and not missing
        there = self.ready_among(missing)
        if len(missing) == 1 and not there and self._ids:
            there = [handle for handle in missing if handle in self._ids]
        missing.difference_update(there)
        return not missing if all_of else bool(there)

    def advance(self, missing: set[Handle], all_of: bool) -> Progress:
        """Consume notifications in order until all (any) of ``missing`` are there.

        ``missing`` holds only handles that are not there yet, and shrinks. CANCELLED consumes one
        cancel signal; the caller then goes through ``unknown_call_ids`` and ``cancel_calls``.
        """
        if self._held_cancels:
            self._held_cancels -= 1
            return Progress.CANCELLED
        queue = self._queue
        while queue:
            handle = self._store(queue.popleft())
            if handle == _CANCEL:
                return Progress.CANCELLED
            if handle in missing:
                missing.discard(handle)
                if not all_of or not missing:
                    return Progress.READY
        return Progress.BLOCKED

    def _store(self, notification: Notification) -> Handle:
        """Keep the first result for each completion and every one for each signal."""
        if type(notification) is Completion:
            completion_id, result = notification.completion_id, notification.result
            if type(result) is InvocationId:
                self._ids.setdefault(completion_id, result)
            else:
                self._ready.setdefault(completion_id, result)
            return completion_id
        assert type(notification) is Signal
        signal = notification.signal
        handle: Handle = -signal if isinstance(signal, int) else signal
        if handle != _CANCEL:
            results = self._ready.get(handle)
            if isinstance(results, deque):
                results.append(notification.result)
            else:
                self._ready[handle] = deque((notification.result,))
        return handle

    # ---- cancellation ---------------------------------------------------------------------------

    def unknown_call_ids(self) -> set[Handle]:
        """Completion ids of callees' ids that a cancellation still needs.

        Consumes notifications; a further cancel signal among them is held for a later await.
        """
        queue = self._queue
        unknown: set[Handle] = {each for each in self._call_ids if each not in self._ids}
        while unknown and queue:
            handle = self._store(queue.popleft())
            if handle == _CANCEL:
                self._held_cancels += 1
            unknown.discard(handle)
        return unknown

    def hold_cancel(self) -> None:
        """Give a cancel signal back that ``advance`` consumed; a later await gets it."""
        self._held_cancels += 1

    def cancel_calls(self) -> None:
        """Pass the cancellation on to every call made so far. Raises JournalMismatch."""
        for each in self._call_ids:
            self.issue(SendSignal(self._ids[each].id, CANCEL_SIGNAL, Void()))

    # ---- blocked --------------------------------------------------------------------------------

    def refuse_to_block(self, missing: set[Handle], where: str) -> None:
        """Raises JournalMismatch when recorded commands are left: the record went on from here."""
        index = self.command_index
        if index < self.recorded_count:
            raise mismatch.stuck(
                self._start.handler,
                index,
                self._recorded[index],
                self.describe_awaited(missing),
                where,
            )

    def describe_awaited(self, missing: set[Handle]) -> str:
        """What an await waits for, in words, from the commands that allocated it."""
        names: list[str] = []
        for command in self._recorded[: self.command_index]:
            if getattr(command, "completion_id", None) in missing:
                names.append(f"{type_name(command)} {mismatch.label(command)}".rstrip())
        for handle in missing:
            if isinstance(handle, str):
                names.append(f"signal {handle!r}")
            elif handle < 0:
                names.append(f"awakeable {-handle}")
        return ", ".join(sorted(names)) or "something that was not issued in the record"


def awaiting(missing: set[Handle], all_of: bool) -> Awaiting:
    """The awaited tree for the runtime; every await can also be ended by the cancel signal."""
    completions: list[int] = []
    signals: list[int | str] = []
    for handle in missing:
        if isinstance(handle, str):
            signals.append(handle)
        elif handle > 0:
            completions.append(handle)
        else:
            signals.append(-handle)
    completions.sort()
    signals.sort(key=str)
    if all_of and len(missing) > 1:
        every = Awaiting(Combinator.ALL_COMPLETED, tuple(completions), tuple(signals))
        return Awaiting(Combinator.FIRST_COMPLETED, (), (CANCEL_SIGNAL,), (every,))
    return Awaiting(Combinator.FIRST_COMPLETED, tuple(completions), (*signals, CANCEL_SIGNAL))


def awaiting_any(parts: list[Awaiting]) -> Awaiting:
    """One tree for several awaits at the same time."""
    if len(parts) == 1:
        return parts[0]
    return Awaiting(Combinator.FIRST_COMPLETED, nested=tuple(parts))


def _equivalent(recorded: Command, issued: Command) -> bool:
    """Equal but for moments, which the clock decides anew on every attempt."""
    if type(recorded) is Sleep and type(issued) is Sleep:
        return (recorded.completion_id, recorded.name) == (issued.completion_id, issued.name)
    if type(recorded) is OneWayCall and type(issued) is OneWayCall:
        return mismatch.differing(recorded, issued) == ["invoke_at_ms"]
    return False
