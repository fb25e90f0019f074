"""The four ways in which every feature is tried, and the record of what closures did outside.

A scenario is an async function of a ``perdure.testing.TestSystem``. It is run several times when
crashes are swept, so it clears its own records first and holds whatever the crash takes away.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from perdure import testing
from perdure.embedded import Services
from perdure.testing import TestSystem

T = TypeVar("T")
Scenario = Callable[[TestSystem], Awaitable[Any]]

_TRIES = 2_000


async def eventually(check: Callable[[], Awaitable[T]], every_s: float = 1.0) -> T:
    """What ``check`` returns, once that is true. Gives up after many tries: a bug shall not hang."""
    for _ in range(_TRIES):
        if found := await check():
            return found
        await asyncio.sleep(every_s)
    raise AssertionError(f"{check} never held")


class Mode(StrEnum):
    PLAIN = "plain"
    CRASHES = "crash-at-every-commit"
    REPLAY = "always-replay"
    BOTH = "crashes-and-replay"

    @property
    def replays(self) -> bool:
        return self in (Mode.REPLAY, Mode.BOTH)

    @property
    def crashes(self) -> bool:
        return self in (Mode.CRASHES, Mode.BOTH)


class Run(Protocol):
    """The fixture ``run``: ``carry_out`` in the mode of the test."""

    def __call__(self, scenario: Scenario, services: Services, **options: Any) -> list[Any]: ...


def carry_out(mode: Mode, scenario: Scenario, services: Services, **options: Any) -> list[Any]:
    """Run ``scenario`` in one of the four ways; the results of all its runs."""
    replays = mode.replays
    if mode.crashes:
        return testing.crash_at_every_commit(scenario, services, always_replay=replays, **options)
    return [testing.run(scenario, services, always_replay=replays, **options)]


class Effects:
    """What run closures did to the world: ``charge = effects("charge")`` inside a closure."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, name: str) -> str:
        """Do it, and say which time that was: `charge#0`, `charge#1`, in order of all effects."""
        receipt = f"{name}#{len(self.done)}"
        self.done.append(receipt)
        return receipt

    def clear(self) -> None:
        self.done.clear()

    def count(self, name: str) -> int:
        return len(self._of(name))

    def check_journaled(self, system: TestSystem, *receipts: str) -> None:
        """A closure whose result was journaled never ran again.

        The receipt that the handler ended up with is of the last time that the effect was done, and
        it was done again only if a crash came before its commit.
        """
        for receipt in receipts:
            times = self._of(receipt.partition("#")[0])
            assert receipt == times[-1], f"{receipt} was journaled, then it ran again: {times}"
            assert len(times) <= 1 + system.crash_count, f"no crash explains {times}"

    def _of(self, name: str) -> list[str]:
        return [each for each in self.done if each.partition("#")[0] == name]
