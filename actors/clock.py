"""Time as an input: the clock that the engine asks, and a loop on which time is virtual.

On a ``VirtualLoop`` sleeping costs nothing, the order of what can happen at once follows from a seed,
and waiting for what never comes raises ``Deadlock``. Nothing here knows actors or invocations.
"""

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Virtual time starts here unless told otherwise: 2025-01-01T00:00:00Z.
EPOCH_MS = 1_735_689_600_000
# Timers closer together than this are due together; well above the rounding of a float in seconds.
RESOLUTION_S = 1e-6
# Real time that a thread may take while nothing else can go on.
OUTSIDE_LIMIT_S = 60.0
# Turns for which a busy loop may keep a thread waiting.
PATIENCE_TURNS = 1000


class Clock(Protocol):
    """What o'clock it is for the engine."""

    def now_ms(self) -> int:
        """Unix epoch. May be stepped by the system; never used to measure spans."""


class SystemClock:
    """The clock of the machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class VirtualClock:
    """The time of a loop, counted from ``epoch_ms``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_ms: int = EPOCH_MS) -> None:
        self._loop = loop
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        return self._epoch_ms + int((self._loop.time() + RESOLUTION_S) * 1000)


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The virtual clock of a virtual loop, the machine's for any other."""
    return loop.clock if isinstance(loop, VirtualLoop) else SystemClock()


class Deadlock(RuntimeError):
    """Nothing can ever happen again: nothing runnable, no timer, no thread at work."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time, which stands still while anything is left to do.

    With a ``seed``, the tasks that can go on are taken in an order drawn from it; plain callbacks keep
    their order among themselves, as asyncio promises. Same seed, same trace.

    Threads take real time. While ``outside_work`` is going on, virtual time stands still and nothing is
    a deadlock. What threads hand in by ``call_soon_threadsafe`` is taken when the loop has nothing
    else to do, so that their speed does not change the trace (of one thread; several do race).
    """

    _ready: deque[asyncio.Handle]
    _ssock: object
    _thread_id: int | None

    if TYPE_CHECKING:

        def _write_to_self(self) -> None: ...
        def _read_from_self(self) -> None: ...

    def __init__(self, seed: int | None = None, epoch_ms: int = EPOCH_MS) -> None:
        self._now = 0.0
        self._from_threads: deque[asyncio.Handle] = deque()
        self.explain: Callable[[], str] | None = None  # what else to say of a deadlock
        self._kept_waiting_count = 0  # turns since a thread handed something in
        self._outside_count = 0
        self._is_submitting = False
        super().__init__(_VirtualSelector(self))
        self._clock_resolution = RESOLUTION_S
        self.rng = None if seed is None else Random(seed)
        self.clock = VirtualClock(self, epoch_ms)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if self._from_threads:
            self._kept_waiting_count += 1
            if self._kept_waiting_count > PATIENCE_TURNS:
                self.take_in()
        if self.rng is not None and len(self._ready) > 1:
            self._shuffle(self.rng)
        super()._run_once()  # type: ignore[misc]

    def _shuffle(self, rng: Random) -> None:
        """Put the tasks in any order, anywhere between the callbacks."""
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        tasks = [handle for handle in ready if _is_task_step(handle)]
        callbacks = deque(handle for handle in ready if not _is_task_step(handle))
        is_task = [True] * len(tasks) + [False] * len(callbacks)
        rng.shuffle(tasks)
        rng.shuffle(is_task)
        order = [tasks.pop() if pick else callbacks.popleft() for pick in is_task]
        self._ready.extendleft(reversed(order))

    # ---- threads --------------------------------------------------------------------------------

    @contextmanager
    def outside_work(self) -> Iterator[None]:
        """Something that this loop cannot see is at work and will call ``call_soon_threadsafe``.

        Enter and leave on the loop's own thread.
        """
        self._outside_count += 1
        try:
            yield
        finally:
            self._outside_count -= 1

    @contextmanager
    def thread_waits(self) -> Iterator[None]:
        """A thread of ``run_in_executor`` does nothing but wait for this loop, so time may pass.

        Enter and leave on the loop's own thread.
        """
        self._outside_count -= 1
        try:
            yield
        finally:
            self._outside_count += 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As on any loop; virtual time waits for it."""
        self._is_submitting = True  # a job may be done before this returns
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # else 3.14 takes its result past call_soon_threadsafe
        try:
            future = super().run_in_executor(executor, func, *args)
        finally:
            asyncio._set_running_loop(running)
            self._is_submitting = False
        work = self.outside_work()
        work.__enter__()
        future.add_done_callback(lambda _: work.__exit__(None, None, None))
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        with self.outside_work():
            await super().shutdown_default_executor(*args)

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if self._thread_id in (None, get_ident()) and not self._is_submitting:
            return self.call_soon(callback, *args, context=context)
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        handle = asyncio.Handle(callback, args, self, context)
        self._from_threads.append(handle)
        self._write_to_self()
        return handle

    # ---- for the selector -----------------------------------------------------------------------

    def take_in(self) -> bool:
        """Take what threads handed in; whether there is something to run."""
        self._kept_waiting_count = 0
        while self._from_threads:
            self._ready.append(self._from_threads.popleft())
        return bool(self._ready)

    def pass_time(self, delay_s: float | None) -> None:
        """Nothing is left to do before ``delay_s`` have passed; None: ever."""
        if delay_s is None:
            waiting = "; ".join(sorted(_place(task) for task in asyncio.all_tasks(self)))
            explanation = "" if self.explain is None else f" {self.explain()}"
            raise Deadlock(
                f"nothing runnable, no timer, no thread at work.{explanation} Tasks: {waiting}"
            )
        self._now += delay_s


class _VirtualSelector(selectors.DefaultSelector):
    """Polls without waiting; where the loop would wait, virtual time passes or threads are waited for."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        events = self._poll(0)
        if events or (timeout is not None and timeout <= 0) or loop.take_in():
            return events
        if loop._outside_count <= 0:
            loop.pass_time(timeout)
            return []
        deadline = time.monotonic() + OUTSIDE_LIMIT_S
        while not events and not loop.take_in():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Deadlock(
                    f"a thread has been at work for {OUTSIDE_LIMIT_S:.0f} s of real time"
                )
            events = self._poll(left_s)
        return events

    def _poll(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready sockets. The loop's own wake-up call is answered here: it must not count as a turn."""
        events = super().select(timeout)
        for event in events:
            if event[0].fileobj is self._loop._ssock:
                self._loop._read_from_self()
                events.remove(event)
                break
        return events


def _is_task_step(handle: asyncio.Handle) -> bool:
    callback = handle._callback  # type: ignore[attr-defined]
    return isinstance(getattr(callback, "__self__", None), asyncio.Task)


def _place(task: asyncio.Task[Any]) -> str:
    """Name of a task, and the line at which it waits."""
    stack = task.get_stack(limit=1)
    where = f" at {stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else ""
    return task.get_name() + where


def run_virtual(
    main: Coroutine[Any, Any, T], *, seed: int | None = None, epoch_ms: int = EPOCH_MS
) -> T:
    """``asyncio.run`` on a ``VirtualLoop``. Raises Deadlock where that would hang."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(seed, epoch_ms)) as runner:
        return runner.run(main)
