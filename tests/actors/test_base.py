"""Thespian's own interface on the asyncio base: names, placement, the blocking ActorSystem."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import (
    Actor,
    ActorSystem,
    ChildActorExited,
    InvalidActorAddress,
    InvalidActorSourceHash,
    InvalidActorSpecification,
    NoCompatibleSystemForActor,
    requireCapability,
)

from perdure.actors.base import AsyncioSystemBase
from perdure.actors.cell import Cell, SupervisedActor
from perdure.actors.clock import run_virtual
from tests.actors.cast import (
    Fragile,
    Recorder,
    Runner,
    Slow,
    new_base,
    settle,
    start_parent,
)


def test_a_name_finds_its_actor_until_it_ends(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        first = base.newPrimaryActor(Recorder, None, "clerk")
        assert base.newPrimaryActor(Fragile, None, "clerk") == first
        names: list[str] = []
        base.tell(first, lambda actor: names.append(actor.globalName))
        await base.stop(first)
        assert names == ["clerk"]
        assert base.newPrimaryActor(Recorder, None, "clerk") != first

    run(main())


def test_an_actor_creates_children_in_thespians_way(run: Runner) -> None:
    class Boss(SupervisedActor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if msg == "make":
                self.send(sender, [self.createActor(Recorder), self.createActor(Recorder)])

    async def main() -> None:
        base = new_base()
        boss = base.spawn(Boss)
        one, two = await base.request(boss, "make")
        assert one != two
        assert len({one, two, one}) == 2
        assert [(i.class_name, i.level) for i in base.iter_actors()] == [
            ("Boss", 0),
            ("Recorder", 1),
            ("Recorder", 1),
        ]

    run(main())


@requireCapability("disk")
class NeedsDisk(Recorder):
    pass


def test_an_actor_runs_only_where_its_capabilities_are(run: Runner) -> None:
    async def main() -> None:
        base = new_base(capabilities={"disk": True})
        cell = base.newPrimaryActor(NeedsDisk, None, None)
        base.spawn(NeedsDisk)
        base.updateCapability("disk", None)
        await settle(base)
        assert cell.is_gone  # its check does not pass any more
        with pytest.raises(NoCompatibleSystemForActor):
            base.newPrimaryActor(NeedsDisk, None, None)
        with pytest.raises(NoCompatibleSystemForActor):
            base.spawn(NeedsDisk)
        seen: list[Any] = []
        made: list[Any] = []
        parent = base.spawn(Recorder, None, seen)
        base.tell(parent, lambda actor: made.append(actor.createActor(NeedsDisk)))
        await settle(base)
        assert seen == [ChildActorExited(made[0])]

    run(main())


def test_a_check_that_raises_counts_as_no() -> None:
    class Careless(Recorder):
        @staticmethod
        def actorSystemCapabilityCheck(capabilities: Any, requirements: Any) -> bool:
            return bool(requirements["region"])

    async def main() -> None:
        base = new_base()
        with pytest.raises(NoCompatibleSystemForActor):
            base.spawn(Careless)
        base.newPrimaryActor(Careless, {"region": "here"}, None)

    asyncio.run(main())


def test_constructors_get_capabilities_and_requirements_when_they_want_them() -> None:
    class Curious(SupervisedActor):
        def __init__(self, capabilities: Any, requirements: Any) -> None:
            self.given = (capabilities["disk"], requirements)

    async def main() -> None:
        base = new_base(capabilities={"disk": 2})
        assert base.newPrimaryActor(Curious, {"a": 1}, None).actor.given == (2, {"a": 1})

    asyncio.run(main())


def test_what_is_no_actor_class_is_refused() -> None:
    async def main() -> None:
        base = new_base()
        wrong: Any
        for wrong in (int, "no.such.Class", "thespian.actors.requireCapability", 5):
            with pytest.raises(InvalidActorSpecification):
                base.newPrimaryActor(wrong, None, None)
        with pytest.raises(InvalidActorSourceHash):
            base.newPrimaryActor(Recorder, None, None, "hash")
        assert isinstance(base.newPrimaryActor("thespian.actors.Actor", None, None), Cell)

    asyncio.run(main())


def test_a_constructor_that_raises_is_the_creators_error_or_an_exit() -> None:
    async def main() -> None:
        base = new_base()
        with pytest.raises(TypeError):
            base.spawn(Fragile)
        seen: list[Any] = []
        base.tell(base.spawn(Recorder, None, seen), lambda actor: actor.createActor(Fragile))
        await settle(base)
        assert [type(message) for message in seen] == [ChildActorExited]

    asyncio.run(main())


def test_a_foreign_address_is_refused_at_the_sender() -> None:
    async def main() -> None:
        base = new_base()
        with pytest.raises(InvalidActorAddress):
            base.tell("somebody", 1)

    asyncio.run(main())


def test_thespians_actor_system_works_from_a_blocking_program() -> None:
    class Echo(Actor):  # type: ignore[misc]
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if isinstance(msg, str):
                self.send(sender, msg.upper())

    loop = asyncio.new_event_loop()
    system = ActorSystem(systemBase=AsyncioSystemBase(loop), transientUnique=True)
    echo = system.createActor(Echo)
    assert system.ask(echo, "one", 5) == "ONE"
    assert system.ask(echo, 1, timedelta(milliseconds=1)) is None
    system.tell(echo, "two")
    assert system.listen(5) == "TWO"
    assert system.listen(0.001) is None
    with system.private() as own:
        assert own.ask(echo, "three", 5) == "THREE"
    system.shutdown()
    assert echo.is_gone
    loop.close()


def test_an_actor_may_shut_the_system_down(run: Runner) -> None:
    async def main() -> None:
        base = new_base()
        cell = base.spawn(Recorder)
        base.tell(cell, lambda actor: actor.actorSystemShutdown())
        while not cell.is_gone:
            await asyncio.sleep(0)

    run(main())


def test_the_tree_shows_age_depth_and_state() -> None:
    async def main() -> None:
        base = new_base()
        parent, child = await start_parent(base, [], Slow, [], 60.0)
        await asyncio.sleep(100)
        for number in range(3):
            base.tell(child, number)
        await asyncio.sleep(1)
        top, below = base.iter_actors()
        assert (top.class_name, top.level, top.state, top.age_s) == ("Parent", 0, "idle", 101.0)
        assert (below.class_name, below.level, below.state) == ("Slow", 1, "busy")
        assert below.mailbox_depth == 2
        assert top.address == str(parent._aaddr)

    run_virtual(main())
