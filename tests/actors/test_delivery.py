"""Mail between actors: its order, one message at a time, fair turns, full mailboxes."""

import asyncio
import gc
from collections.abc import Callable
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest
from thespian.actors import (
    ActorExitRequest,
)

from perdure.actors.base import AsyncioSystemBase
from perdure.actors.cell import Cell, SupervisedActor
from perdure.actors.clock import run_virtual
from perdure.journal.errors import Overloaded
from tests.actors.cast import (
    Recorder,
    Runner,
    Slow,
    new_base,
    settle,
)


class Chatter(SupervisedActor):
    """Sends numbers to its peer and notes what the peer sends meanwhile."""

    def __init__(self, got: list[int], count: int) -> None:
        self.got = got
        self.count = count

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if isinstance(msg, int):
            self.got.append(msg)
            return
        peer, first = msg
        for number in range(first, min(first + 3, self.count)):
            self.send(peer, number)
        if first + 3 < self.count:
            self.send(self.myAddress, (peer, first + 3))


def test_order_is_kept_with_traffic_both_ways(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        left: list[int] = []
        right: list[int] = []
        a = base.spawn(Chatter, None, left, 300)
        b = base.spawn(Chatter, None, right, 300)
        base.tell(a, (b, 0))
        base.tell(b, (a, 0))
        await settle(base)
        assert left == right == list(range(300))

    run(main())


class Nested(SupervisedActor):
    """Sends to itself, from inside and through the outside, and notes how deep it gets."""

    def __init__(self, base: AsyncioSystemBase) -> None:
        self.base = base
        self.depth = 0
        self.deepest = 0

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        if msg:
            self.send(self.myAddress, msg - 1)
            self.base.tell(self.myAddress, 0)
        self.depth -= 1


def test_a_handler_never_runs_inside_another_one(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        cell = base.spawn(Nested, None, base)
        base.tell(cell, 5)
        await settle(base)
        assert cell.actor.deepest == 1

    run(main())


def test_async_handlers_take_one_message_at_a_time_across_awaits(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        cell = base.spawn(Slow, None, seen)
        other: list[Any] = []
        base.spawn(Slow, None, other)
        for number in range(200):  # more than one turn's budget
            base.tell(cell, number)
        await settle(base)
        assert seen == [(what, n) for n in range(200) for what in ("begin", "end")]

    run(main())


def test_actors_that_await_do_not_hold_up_others(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        slow: list[Any] = []
        quick: list[Any] = []
        base.tell(base.spawn(Slow, None, slow, 0.01), 1)
        base.tell(base.spawn(Recorder, None, quick), 1)
        while not quick:
            await asyncio.sleep(0)
        assert ("end", 1) not in slow
        await settle(base)
        assert slow == [("begin", 1), ("end", 1)]

    run(main())


def test_a_flooded_actor_leaves_turns_to_the_loop_and_to_its_neighbours(run: Runner) -> None:
    async def main() -> None:
        base = new_base(turn_budget=10)
        seen: list[Any] = []
        flooded = base.spawn(Recorder, None, seen)
        for number in range(1000):
            base.tell(flooded, number)
        base.tell(base.spawn(Recorder, None, seen), "neighbour")
        await settle(base)
        assert seen.index("neighbour") < 500
        for number in range(1000):
            base.tell(flooded, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert flooded.mailbox_depth > 900

    run(main())


def test_handlers_see_no_context_variable_of_whoever_sent(run: Runner) -> None:
    var: ContextVar[str] = ContextVar("var", default="clean")

    class Reader(SupervisedActor):
        async def receiveMessage(self, msg: Any, sender: Any) -> None:
            self.send(sender, var.get())

    async def main() -> None:
        base = new_base()
        var.set("sender's")
        assert await base.request(base.spawn(Reader), 1) == "clean"

    run(main())


def test_every_seed_keeps_order_per_sender_and_explores_orders_between_senders() -> None:
    async def main(seed: int) -> tuple[Any, ...]:
        base = AsyncioSystemBase(asyncio.get_running_loop(), rng=Random(seed))
        seen: list[Any] = []
        target = base.spawn(Recorder, None, seen)

        def burst(name: str) -> Callable[[Recorder], None]:
            def send(actor: Recorder) -> None:
                for number in range(3):
                    actor.send(target, (name, number))

            return send

        for name in "abcd":
            base.tell(base.spawn(Recorder), burst(name))
        await settle(base)
        for name in "abcd":
            assert [number for who, number in seen if who == name] == [0, 1, 2]
        return tuple(seen)

    traces = [run_virtual(main(seed), seed=seed) for seed in range(12)]
    assert traces == [run_virtual(main(seed), seed=seed) for seed in range(12)]
    assert len(set(traces)) > 6


def test_tell_past_the_limit_raises_and_notices_still_get_in(run: Runner) -> None:
    async def main() -> None:
        base = new_base(mailbox_limit=5)
        seen: list[Any] = []
        cell = base.spawn(Recorder, None, seen)
        for number in range(6):  # one is on its way, five wait
            base.tell(cell, number)
        with pytest.raises(Overloaded, match="5 messages waiting"):
            base.tell(cell, 6)
        base.tell(cell, ActorExitRequest())
        await base.stop(cell)
        assert seen == [0, 1, 2, 3, 4, 5, ActorExitRequest()]

    run(main())


def test_send_past_the_limit_raises_at_the_sender_who_may_go_on(run: Runner) -> None:
    async def main() -> None:
        base = new_base(mailbox_limit=3)
        target = base.spawn(Slow, None, [], 0.01)
        refused: list[int] = []

        def flood(actor: Recorder) -> None:
            for number in range(10):
                try:
                    actor.send(target, number)
                except Overloaded:
                    refused.append(number)

        base.tell(base.spawn(Recorder), flood)
        await settle(base)
        assert refused == [4, 5, 6, 7, 8, 9]

    run(main())


def test_a_hundred_thousand_ended_actors_leave_nothing_behind() -> None:
    async def cycle(base: AsyncioSystemBase, parent: Cell, count: int) -> None:
        for _ in range(count // 500):
            cells = [base.spawn(Recorder, parent) for _ in range(500)]
            for cell in cells:
                base.tell(cell, 1)
                base.tell(cell, ActorExitRequest())
            del cells, cell
            await settle(base)
            parent.actor.seen.clear()

    async def main() -> int:
        base = new_base()
        parent = base.spawn(Recorder)
        await cycle(base, parent, 1000)
        gc.collect()
        gc.disable()  # what remains is counted before any collection: no cycles either
        try:
            before = len(gc.get_objects())
            await cycle(base, parent, 100_000)
            return len(gc.get_objects()) - before
        finally:
            gc.enable()

    assert asyncio.run(main()) < 200
