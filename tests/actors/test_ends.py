"""How actors end, what becomes of their mail, their children and their wakeups."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import (
    ActorExitRequest,
    ChildActorExited,
    DeadEnvelope,
    WakeupMessage,
)

from perdure.actors.cell import ActorGone, SupervisedActor
from perdure.actors.clock import run_virtual
from tests.actors.cast import (
    Parent,
    Recorder,
    Runner,
    Slow,
    new_base,
    settle,
    start_parent,
)


def test_an_exit_is_told_to_the_parent_once(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        parent, _ = await start_parent(base, seen, Recorder)
        children = [await base.request(parent, "child?")]
        for _ in range(9):
            base.tell(parent, "start")
            children.append(await base.request(parent, "child?"))
        for child in children:
            base.tell(child, ActorExitRequest())
            base.tell(child, ActorExitRequest())
        await settle(base)
        exits = [message for message in seen if isinstance(message, ChildActorExited)]
        assert {each.childAddress for each in exits} == set(children)
        assert len(exits) == 10

    run(main())


def test_an_actor_sees_its_exit_request_after_what_came_before(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        cell = base.spawn(Slow, None, seen)
        base.tell(cell, 1)
        await base.stop(cell)
        assert [message for what, message in seen if what == "begin"] == [1, ActorExitRequest()]
        assert cell.is_gone

    run(main())


def test_an_actor_that_fails_while_it_ends_has_ended_and_is_not_restarted(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(SupervisedActor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            raise ValueError("I stay")

    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        _, child = await start_parent(base, seen, Stubborn)
        await base.stop(child)
        await settle(base)
        assert isinstance(seen[-1], ChildActorExited)

    run(main())
    assert "failed while it ended" in caplog.text


def test_stop_waits_for_everything_below(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        parent, child = await start_parent(base, [], Slow, seen, 0.01)
        base.tell(child, 1)
        await base.stop(parent)
        assert seen[-1] == ("end", ActorExitRequest())
        assert list(base.iter_actors()) == []

    run(main())


def test_stop_kills_what_does_not_end(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(SupervisedActor):
        async def receiveMessage(self, msg: Any, sender: Any) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cleaned.append(True)

    cleaned: list[bool] = []

    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        parent, child = await start_parent(base, seen, Stuck)
        base.tell(child, 1)
        await base.stop(child, grace_s=0.01)
        assert cleaned == [True]
        await settle(base)
        assert [m for m in seen if isinstance(m, ChildActorExited)] == [ChildActorExited(child)]
        await base.stop(base.root)
        assert parent.is_gone

    run(main())
    assert "is killed" in caplog.text


def test_shutdown_ends_all_actors_and_nothing_new_can_be_made(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        for _ in range(3):
            await start_parent(base, [], Recorder, seen)
        await base.stop(base.root)
        assert seen == [ActorExitRequest()] * 3
        assert list(base.iter_actors()) == []
        with pytest.raises(ActorGone):
            base.spawn(Recorder)

    run(main())


def test_children_that_are_left_behind_go_to_the_system(run: Runner) -> None:
    class Deserter(Parent):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            super().receiveMessage(msg, sender)
            if isinstance(msg, ActorExitRequest):
                msg.notRecursive()

    async def main() -> None:
        base = new_base()
        parent = base.spawn(Deserter, None, [], Recorder)
        base.tell(parent, "start")
        child = await base.request(parent, "child?")
        await base.stop(parent)
        assert [(info.class_name, info.level) for info in base.iter_actors()] == [("Recorder", 0)]
        await base.stop(base.root)
        assert child.is_gone

    run(main())


def test_mail_for_an_ended_actor_goes_to_the_dead_letter_actors(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        cell = base.spawn(Slow, None, [], 0.001)
        undertaker = base.spawn(Recorder, None, seen)
        base.tell(undertaker, lambda actor: actor.handleDeadLetters())
        await settle(base)
        base.tell(cell, ActorExitRequest())
        base.tell(cell, "pending")
        await base.stop(cell)
        base.tell(cell, "after")
        base.tell(cell, ActorExitRequest())  # of no use any more, and no letter
        await settle(base)
        assert seen == [DeadEnvelope(cell, "pending"), DeadEnvelope(cell, "after")]
        base.tell(undertaker, lambda actor: actor.handleDeadLetters(False))
        await settle(base)
        base.tell(cell, "unread")
        await settle(base)
        assert len(seen) == 2
        assert base.dead_letter_count == 3

    run(main())


def test_a_question_to_an_ended_actor_fails_at_once(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        cell = base.spawn(Recorder)
        await base.stop(cell)
        with pytest.raises(ActorGone, match="has ended"):
            await base.request(cell, 1)

    run(main())


def test_wakeups_come_when_due_and_ties_in_the_order_of_asking(run: Runner) -> None:
    def arm(actor: Recorder) -> None:
        actor.wakeupAfter(timedelta(milliseconds=20), "c")
        for number in range(10):
            actor.wakeupAfter(0.01, number)
        actor.wakeupAfter(timedelta(milliseconds=1), "a")

    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        base.tell(base.spawn(Recorder, None, seen), arm)
        while len(seen) < 12:
            await asyncio.sleep(0.001)
        assert [message.payload for message in seen] == ["a", *range(10), "c"]
        assert seen[0] == WakeupMessage(timedelta(milliseconds=1), "a")
        assert len(base.wakeups) == 0

    run(main())


def test_wakeups_die_with_the_actor_and_with_a_failure(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        ended = base.spawn(Recorder, None, seen)
        base.tell(ended, lambda actor: actor.wakeupAfter(0.001, "ended"))
        await base.stop(ended)

        class Waker(Slow):
            async def receiveMessage(self, msg: Any, sender: Any) -> None:
                if msg == "bad":
                    self.wakeupAfter(0.001, "in the mailbox when it fails")
                    self.wakeupAfter(0.03, "armed when it fails")
                await super().receiveMessage(msg, sender)

        child_seen: list[Any] = []
        _, child = await start_parent(base, [], Waker, child_seen, 0.02)
        base.tell(child, "bad")
        base.tell(child, "next")
        await asyncio.sleep(0.1)
        assert child_seen == [("begin", "bad"), ("begin", "next"), ("end", "next")]
        assert seen == [ActorExitRequest()]

    run(main())


def test_wakeups_of_ended_actors_are_swept_before_they_are_due() -> None:
    async def main() -> None:
        base = new_base()
        kept = base.spawn(Recorder)
        base.tell(kept, lambda actor: actor.wakeupAfter(timedelta(hours=2), "kept"))
        for _ in range(1000):
            cell = base.spawn(Recorder)
            base.tell(cell, lambda actor: actor.wakeupAfter(timedelta(hours=1)))
            base.tell(cell, ActorExitRequest())
            await settle(base)
        assert len(base.wakeups) < 150
        await asyncio.sleep(3 * 3600)
        assert [message.payload for message in kept.actor.seen] == ["kept"]
        assert len(base.wakeups) == 0

    run_virtual(main())
