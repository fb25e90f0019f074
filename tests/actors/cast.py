"""The actors that the tests of the embedded system play with. No test is here."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from thespian.actors import (
    Actor,
)

from perdure.actors.base import AsyncioSystemBase
from perdure.actors.cell import ActorFailed, Cell, SupervisedActor
from perdure.actors.clock import VirtualLoop

Main = Coroutine[Any, Any, Any]
Runner = Callable[[Main], Any]


def new_base(**settings: Any) -> AsyncioSystemBase:
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        settings.setdefault("rng", loop.rng)
    return AsyncioSystemBase(loop, **settings)


async def settle(base: AsyncioSystemBase) -> None:
    """Until no actor has anything to do. Virtual time passes only when somebody waits for it."""
    while any(actor.state not in ("idle", "ending") for actor in base.iter_actors()):
        await asyncio.sleep(0.0001)


class Recorder(SupervisedActor):
    """Notes everything; a function as message is called with the actor."""

    def __init__(self, seen: list[Any] | None = None) -> None:
        self.seen: list[Any] = [] if seen is None else seen

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        if callable(msg):
            msg(self)
        else:
            self.seen.append(msg)


class Slow(SupervisedActor):
    """Awaits in the middle of every message."""

    def __init__(self, seen: list[Any], pause_s: float = 0.0) -> None:
        self.seen = seen
        self.pause_s = pause_s

    async def receiveMessage(self, msg: Any, sender: Any) -> None:
        self.seen.append(("begin", msg))
        await asyncio.sleep(self.pause_s)
        if msg == "bad":
            raise ValueError("bad")
        self.seen.append(("end", msg))


class Plain(Actor):  # type: ignore[misc]
    """A Thespian actor that knows nothing of us; "bad" makes it raise."""

    seen: list[Any]

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        self.seen.append(msg)
        if msg == "bad":
            raise ValueError("bad")


class Fragile(SupervisedActor):
    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        self.seen.append(msg)
        if msg == "bad":
            raise ValueError("no good")


class Parent(SupervisedActor):
    """Has one child and replaces it when it fails."""

    def __init__(self, seen: list[Any], cls: type, *args: Any) -> None:
        self.seen = seen
        self.plan = (cls, *args)
        self.child: Cell | None = None

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        self.seen.append(msg)
        match msg:
            case "start":
                self.child = self.spawn(*self.plan)
            case ActorFailed():
                self.child = self.spawn(*self.plan)
                msg.hand_over(self.child)
            case ("child", message):
                self.send(self.child, message)
            case "child?":
                self.send(sender, self.child)


async def start_parent(base: AsyncioSystemBase, seen: list[Any], *plan: Any) -> tuple[Cell, Cell]:
    parent = base.spawn(Parent, None, seen, *plan)
    base.tell(parent, "start")
    return parent, await base.request(parent, "child?")
