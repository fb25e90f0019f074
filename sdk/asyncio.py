"""Waiting for several durable futures: gather, select, as_completed, wait_completed.

Which one is first is read from the journal's order, so every replay decides alike; that is why
``asyncio.gather`` and ``asyncio.wait`` must not be used for durable futures.
"""

import inspect
import types
from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, TypeVar, overload

from perdure.attempt_core import AttemptCore
from perdure.context import DurablePromise
from perdure.current import operating_for
from perdure.futures import DurableFuture, foreign
from perdure.handles import RestateDurableFuture
from perdure.journal.errors import UsageError
from perdure.journal.replay import Handle

__all__ = ["as_completed", "gather", "select", "wait_completed"]

T = TypeVar("T")


async def gather(*futures: RestateDurableFuture[Any]) -> list[RestateDurableFuture[Any]]:
    """Wait until all are completed, in success or failure; returns them, to be awaited one by one."""
    if not futures:
        return []
    attempt, durable = checked(futures)
    missing = {each.handle for each in durable if not each.is_completed()}
    if missing:
        await wait_for(attempt, missing, True)
    return list(futures)


async def select(**futures: RestateDurableFuture[Any]) -> list[Any]:
    """Wait for the first to complete: its name and its value, as a list to match on.

    Raises the TerminalError of the first where it failed, ValueError where no future is given.
    """
    if not futures:
        raise ValueError("At least one future must be passed.")
    named = {
        name: each.value() if isinstance(each, DurablePromise) else each
        for name, each in futures.items()
    }
    completed, _ = await wait_completed(*named.values())
    winner = completed[0]
    name = next(name for name, each in named.items() if each is winner)
    return [name, await winner]


@overload
def as_completed(
    *futures: RestateDurableFuture[T],
) -> AsyncIterator[RestateDurableFuture[T]]: ...
@overload
def as_completed(
    *futures: RestateDurableFuture[Any],
) -> AsyncIterator[RestateDurableFuture[Any]]: ...
async def as_completed(
    *futures: RestateDurableFuture[Any],
) -> AsyncIterator[RestateDurableFuture[Any]]:
    """Yields the futures as they complete: ``async for future in as_completed(a, b): ...``."""
    if not futures:
        return
    attempt, durable = checked(futures)
    replay = attempt.replay
    waiting: dict[Handle, list[DurableFuture[Any]]] = {}
    completed = [each for each in durable if each.is_completed()]
    for each in durable:
        if not each.is_completed():
            waiting.setdefault(each.handle, []).append(each)
    order = {handle: index for index, handle in enumerate(waiting)}
    while True:
        for each in completed:
            count = replay.taken_count + (not each.is_taken)
            yield each
            if replay.taken_count > count or not each.is_taken:  # the body awaited others
                completed.extend(_withdraw_taken(waiting))
        if not waiting:
            return
        if not (there := replay.ready_among(waiting)):
            await wait_for(attempt, set(waiting), False)
            there = replay.ready_among(waiting)
        there.sort(key=order.__getitem__)
        completed = [each for handle in there for each in waiting.pop(handle)]


def _withdraw_taken(waiting: dict[Handle, list[DurableFuture[T]]]) -> list[DurableFuture[T]]:
    """Take out the futures whose result somebody took meanwhile."""
    taken = [handle for handle, each in waiting.items() if each[0].is_completed()]
    return [each for handle in taken for each in waiting.pop(handle)]


@overload
async def wait_completed(
    *futures: RestateDurableFuture[T],
) -> tuple[list[RestateDurableFuture[T]], list[RestateDurableFuture[T]]]: ...
@overload
async def wait_completed(
    *futures: RestateDurableFuture[Any],
) -> tuple[list[RestateDurableFuture[Any]], list[RestateDurableFuture[Any]]]: ...
async def wait_completed(
    *futures: RestateDurableFuture[Any],
) -> tuple[list[RestateDurableFuture[Any]], list[RestateDurableFuture[Any]]]:
    """Wait until at least one is completed: those that are, and the others, in the order given."""
    if not futures:
        return [], []
    attempt, durable = checked(futures)
    if not any(each.is_completed() for each in durable):
        await wait_for(attempt, {each.handle for each in durable}, False)
    completed: list[RestateDurableFuture[Any]] = []
    waiting: list[RestateDurableFuture[Any]] = []
    for each in durable:
        (completed if each.is_completed() else waiting).append(each)
    return completed, waiting


def checked(
    futures: Iterable[RestateDurableFuture[T]],
) -> tuple[AttemptCore, list[DurableFuture[T]]]:
    """The attempt that all belong to. Raises UsageError for what is not a future of this handler."""
    durable: list[DurableFuture[T]] = []
    for each in futures:
        if not isinstance(each, DurableFuture):
            raise UsageError(
                f"All futures must SDK created futures, got {type(each).__qualname__}."
                f" {_advice(each)}"
            )
        durable.append(each)
    attempt = durable[0].attempt
    owner = operating_for.get()
    for each in durable:
        if each.attempt is not attempt:
            raise UsageError("All futures must be created by the same SDK context.")
    if owner is not attempt and owner is not None:
        raise foreign(durable[0], owner)
    if attempt.closed is None:
        attempt.mark_awaited(each.handle for each in durable)
    return attempt, durable


def _advice(value: object) -> str:
    if inspect.iscoroutine(value):
        value.close()
        return "Wrap the code in ctx.run_typed(name, function), or await the coroutine first."
    return "Pass what a context method returned, without awaiting it."


@types.coroutine
def wait_for(attempt: AttemptCore, missing: set[Handle], all_of: bool) -> Generator[Any, Any, None]:
    """Await all (any) of the handles."""
    yield from attempt.wait(missing, all_of)
