"""Handlers that raise: plain actors are asked twice, ours are let crash and reported."""

import asyncio
from typing import Any

import pytest
from thespian.actors import (
    Actor,
    ActorExitRequest,
    ChildActorExited,
    PoisonMessage,
)

from perdure.actors.cell import ActorFailed, ActorGone, SupervisedActor
from perdure.journal.errors import SuspendedException
from tests.actors.cast import (
    Fragile,
    Parent,
    Plain,
    Recorder,
    Runner,
    Slow,
    new_base,
    settle,
    start_parent,
)


def test_a_plain_actor_gets_a_failing_message_twice_and_then_lives_on(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        cell = base.spawn(Plain)
        cell.actor.seen = []
        answer = base.request(cell, "bad")
        base.tell(cell, "good")
        poison = await answer
        assert isinstance(poison, PoisonMessage)
        assert poison.poisonMessage == "bad"
        assert "ValueError: bad" in poison.details
        await settle(base)
        assert cell.actor.seen == ["bad", "bad", "good"]  # not overtaken by what came later

    run(main())


def test_poison_goes_to_the_actor_that_sent_the_message(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        cell = base.spawn(Plain)
        cell.actor.seen = []
        sender = base.spawn(Recorder, None, seen)
        base.tell(sender, lambda actor: actor.send(cell, "bad"))
        await settle(base)
        assert seen == [PoisonMessage("bad")]

    run(main())


def test_an_async_plain_actor_is_retried_in_place_too(run: Runner) -> None:
    class Async(Actor):  # type: ignore[misc]
        seen: list[Any]

        async def receiveMessage(self, msg: Any, sender: Any) -> None:
            self.seen.append(msg)
            await asyncio.sleep(0)
            if msg == "bad":
                raise ValueError(msg)

    async def main() -> None:
        base = new_base()
        cell = base.spawn(Async)
        cell.actor.seen = []
        answer = base.request(cell, "bad")
        base.tell(cell, "good")
        assert await answer == PoisonMessage("bad")
        await settle(base)
        assert cell.actor.seen == ["bad", "bad", "good"]

    run(main())


@pytest.mark.parametrize("cls", [Fragile, Slow])
def test_a_supervised_actor_handles_a_failing_message_once_and_is_reported_once(
    run: Runner, cls: type
) -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        child_seen: list[Any] = []
        parent, child = await start_parent(base, seen, cls, child_seen)
        base.tell(child, "bad")
        await settle(base)
        (failed,) = [message for message in seen if isinstance(message, ActorFailed)]
        assert failed.address == child
        assert failed.message == "bad"
        assert isinstance(failed.error, ValueError)
        assert "ValueError" in failed.traceback
        assert not any(isinstance(message, ChildActorExited) for message in seen)
        assert child_seen.count("bad") + child_seen.count(("begin", "bad")) == 1
        assert child.is_gone
        assert (await base.request(parent, "child?")) != child

    run(main())


@pytest.mark.parametrize("cls", [Fragile, Slow])
def test_pending_mail_goes_to_the_successor_in_order_with_its_senders(
    run: Runner, cls: type
) -> None:
    async def main() -> None:
        base = new_base()
        child_seen: list[Any] = []
        parent, child = await start_parent(base, [], cls, child_seen)
        for message in ("one", "bad", "two", "three"):
            base.tell(child, message)
        base.tell(parent, ("child", "four"))  # may come when it has failed and nobody knows yet
        await settle(base)
        handled = [m[1] if isinstance(m, tuple) else m for m in child_seen]
        assert sorted(set(handled), key=handled.index) == ["one", "bad", "two", "three", "four"]
        successor = await base.request(parent, "child?")
        (info,) = [each for each in base.iter_actors() if each.address == str(successor._aaddr)]
        assert info.restarts == 1
        assert "ValueError" in info.last_error

    run(main())


def test_mail_between_the_failure_and_its_notice_is_handed_over_too() -> None:
    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        child_seen: list[Any] = []
        parent, child = await start_parent(base, seen, Fragile, child_seen)
        base.tell(child, "bad")
        base.tell(parent, ("child", "late"))  # handled after the failure, before its notice
        base.tell(parent, ("child", "later"))
        await settle(base)
        assert [type(m) for m in seen[-3:]] == [tuple, tuple, ActorFailed]
        assert child_seen == ["bad", "late", "later"]
        base.tell(child, "too late")
        assert base.dead_letter_count == 1

    asyncio.run(main())


def test_who_asked_is_told_when_the_actor_fails_over_the_question(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        _, child = await start_parent(base, [], Fragile, [])
        with pytest.raises(ActorGone) as caught:
            await base.request(child, "bad")
        assert isinstance(caught.value.__cause__, ValueError)

    run(main())


def test_the_failure_of_an_actor_without_parent_is_reported_to_the_loop() -> None:
    async def main() -> list[Any]:
        reports: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
        base = new_base()
        cell = base.spawn(Fragile, None, [])
        first = base.request(cell, "bad")
        second = base.request(cell, "waiting")
        for answer in (first, second):
            with pytest.raises(ActorGone):
                await answer
        return reports

    (report,) = asyncio.run(main())
    assert str(report) == "no good"


def test_the_children_of_a_failed_actor_end_with_it(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        grand: list[Any] = []

        class Middle(SupervisedActor):
            def receiveMessage(self, msg: Any, sender: Any) -> None:
                if msg == "bad":
                    raise ValueError(msg)
                if msg == "start":
                    self.spawn(Recorder, grand)

        seen: list[Any] = []
        _, child = await start_parent(base, seen, Middle)
        base.tell(child, "start")
        base.tell(child, "bad")
        await settle(base)
        assert [type(message) for message in grand] == [ActorExitRequest]
        assert child.is_gone

    run(main())


def test_a_failure_nobody_can_take_over_still_answers_who_asked(run: Runner) -> None:
    """The parent fails too, before it hears of the child: its child's mail must not be lost silently."""

    async def main() -> None:
        base = new_base()
        _, middle = await start_parent(base, [], Parent, [], Fragile, [])
        base.tell(middle, "start")
        child = await base.request(middle, "child?")

        def fail(*_: Any) -> None:
            raise ValueError("the parent, too")

        middle.actor.receiveMessage = fail
        base.tell(child, "bad")
        answer = base.request(child, "waiting")
        with pytest.raises(ActorGone):
            await answer

    run(main())


def test_control_flow_that_is_no_exception_ends_an_actor_too(run: Runner) -> None:
    class Leaky(SupervisedActor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            raise SuspendedException

    async def main() -> None:
        base = new_base()
        seen: list[Any] = []
        _, child = await start_parent(base, seen, Leaky)
        base.tell(child, 1)
        await settle(base)
        assert isinstance(seen[-1], ActorFailed)

    run(main())


def test_keyboard_interrupt_reaches_the_program() -> None:
    class Interrupted(Actor):  # type: ignore[misc]
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            raise KeyboardInterrupt

    async def main() -> None:
        base = new_base()
        await base.request(base.spawn(Interrupted), 1)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
