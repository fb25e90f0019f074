"""One small interface to an actor system, and the system that lives inside this process.

Only this room's ``system`` names a system base. Whoever uses ``Actors`` runs on both kinds: messages are
``bytes`` or frozen structs, never changed after they were sent; configuration comes in a first message;
addresses are compared with ``==``; an exit may be told twice. (Here messages go by reference, addresses
are hashable and exits are told once; a system of processes pickles and copies.)
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

from thespian.actors import ActorSystem, PoisonMessage

from perdure.actors.base import MAILBOX_LIMIT, STOP_GRACE_S, AsyncioSystemBase
from perdure.actors.cell import ActorInfo
from perdure.actors.clock import VirtualLoop
from perdure.journal.errors import PerdureError

# Where an actor can be reached: a Thespian ActorAddress.
Address: TypeAlias = Any


class Poisoned(PerdureError):
    """The actor that was asked could not handle the message; its traceback is the text."""


class Actors(Protocol):
    """An actor system, from outside. Used on its loop's thread only."""

    kind: str

    def spawn(
        self, cls: type, *, name: str | None = None, requirements: dict[str, Any] | None = None
    ) -> Address:
        """Create an actor without a parent actor, or find the one of that name.

        Raises Thespian's NoCompatibleSystemForActor, and what the constructor raises.
        """

    def tell(self, to: Address, message: Any) -> None:
        """Send; nobody hears of an answer. Raises Overloaded when the mailbox is full."""

    async def ask(self, to: Address, message: Any, timeout_s: float = 5.0) -> Any:
        """Send, and wait for the answer to this message and no other.

        Raises TimeoutError, Overloaded, Poisoned, or ActorGone.
        """

    async def stop(self, to: Address) -> None:
        """End an actor and everything below it; returns when they have ended."""

    async def close(self) -> None:
        """End all actors. Nothing can be created afterwards."""


class EmbeddedActors:
    """Actors in this process, on ``loop``; on a seeded ``VirtualLoop`` in any order that can happen."""

    kind = "embedded"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        capabilities: dict[str, Any] | None = None,
        *,
        mailbox_limit: int = MAILBOX_LIMIT,
    ) -> None:
        loop = loop or asyncio.get_running_loop()
        rng = loop.rng if isinstance(loop, VirtualLoop) else None
        self.base = AsyncioSystemBase(loop, capabilities, mailbox_limit=mailbox_limit, rng=rng)
        self.thespian = ActorSystem(self.base, transientUnique=True)

    def spawn(
        self,
        cls: type,
        *args: Any,
        name: str | None = None,
        requirements: dict[str, Any] | None = None,
    ) -> Address:
        """As ``Actors.spawn``; constructor arguments are an extra of this system."""
        if args:
            if name or requirements:
                raise TypeError("an actor with constructor arguments has no name or requirements")
            return self.base.spawn(cls, None, *args)
        return self.thespian.createActor(cls, requirements, globalName=name)

    def tell(self, to: Address, message: Any) -> None:
        self.base.tell(to, message)

    async def ask(self, to: Address, message: Any, timeout_s: float = 5.0) -> Any:
        async with asyncio.timeout(timeout_s):
            answer = await self.base.request(to, message)
        if isinstance(answer, PoisonMessage):
            raise Poisoned(answer.details)
        return answer

    async def stop(self, to: Address, grace_s: float = STOP_GRACE_S) -> None:
        """What has not ended after ``grace_s`` seconds is killed: its handler is cancelled."""
        await self.base.stop(to, grace_s)

    async def close(self, grace_s: float = STOP_GRACE_S) -> None:
        await self.base.stop(self.base.root, grace_s)

    def iter_actors(self) -> Iterator[ActorInfo]:
        """Every living actor, parents before their children, in order of creation."""
        return self.base.iter_actors()
