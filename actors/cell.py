"""One actor's place in an asyncio system base: its address, its mailbox, its state.

Also the two other addresses there are, for answers and for the outside, and the notice of a failure.
When mail is handled, and how actors begin and end, is the base's business: ``actors/base.py``.
"""

import asyncio
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import msgspec
from thespian.actors import (
    Actor,
    ActorAddress,
    ActorSystemMessage,
    ChildActorExited,
    InvalidActorAddress,
    InvalidActorSourceHash,
    WakeupMessage,
)
from thespian.system.timing import timePeriodSeconds

from perdure.actors.wakeups import Wakeups
from perdure.journal.errors import Overloaded, PerdureError

# The life of an actor. All states from DEAD on are ends; FAILED still keeps mail for the parent.
IDLE, READY, BUSY, DEAD, FAILED = range(5)

# To whom, what, from whom.
Letter: TypeAlias = "tuple[Cell, Any, Any]"


class Base(Protocol):
    """The system base, as an actor's place needs it: ``AsyncioSystemBase``."""

    wakeups: Wakeups
    mailbox_limit: int
    ready: deque[Letter]
    is_scheduled: bool

    def now(self) -> float: ...
    def schedule(self) -> None: ...
    def undeliverable(self, cell: "Cell", message: Any, sender: Any) -> None: ...
    def spawn(self, cls: type, parent: "Cell", *args: Any) -> "Cell": ...
    def create(
        self, cls: type | str, parent: "Cell", requirements: dict[str, Any] | None, name: str | None
    ) -> "Cell": ...
    def handle_dead_letters(self, cell: "Cell", enable: bool) -> None: ...
    def updateCapability(self, name: str, value: Any = None) -> None: ...
    def shutdown(self) -> None: ...


class ActorGone(PerdureError):
    """The actor that was asked has ended; nothing will answer. The cause is what it failed with."""

    code = 503

    def __init__(self, address: Any) -> None:
        super().__init__(address)

    def __str__(self) -> str:
        return f"{self.args[0]!r} has ended; ask its parent or its directory for the successor"


class ActorInfo(msgspec.Struct, frozen=True):
    """One living actor, as ``perdure tree`` shows it."""

    class_name: str
    address: str
    level: int  # 0 for actors without a parent actor
    name: str  # global name, or ""
    state: str  # idle, ready, busy, ending
    age_s: float
    mailbox_depth: int
    restarts: int
    last_error: str


class SupervisedActor(Actor):  # type: ignore[misc]
    """A Thespian actor of ours: a handler that raises ends it at once, and its parent is told.

    The handler is not called a second time; the parent gets ``ActorFailed`` and decides. ``spawn``
    exists in the embedded system only; classes that also run as processes take their configuration
    from a first message and share no state.
    """

    restart_on_error: ClassVar[bool] = True

    if TYPE_CHECKING:
        _myRef: "Cell"

        @property
        def myAddress(self) -> "Cell": ...
        def send(self, targetAddr: Any, msg: Any) -> None: ...
        def wakeupAfter(self, timePeriod: Any, payload: Any = None) -> None: ...
        def handleDeadLetters(self, startHandling: bool = True) -> None: ...

    def spawn(self, cls: type, *args: Any) -> "Cell":
        """Create the child ``cls(*args)``. What the constructor raises is raised here."""
        return self._myRef.base.spawn(cls, self._myRef, *args)


class ActorFailed(ActorSystemMessage):  # type: ignore[misc]
    """To the parent, once, instead of ChildActorExited: a child with ``restart_on_error`` raised.

    ``message`` from ``sender`` is what it raised over; it is not handled again by itself.
    ``undelivered``: what it had not begun, as (message, sender) in order, up to the moment at which
    the parent is told; ``hand_over`` gives that to a successor. Read it only, it is shared.
    """

    def __init__(self, address: "Cell", error: BaseException, message: Any, sender: Any) -> None:
        self.address = address
        self.error = error
        self.message = message
        self.sender = sender
        self.traceback = "".join(traceback.format_exception(error))
        self.undelivered: tuple[tuple[Any, Any], ...] = ()

    def __str__(self) -> str:
        return f"ActorFailed({self.address!r}, {self.error!r}, {len(self.undelivered)} undelivered)"

    def close(self) -> None:
        """The parent is being told: take the mail; from now on it is dead letters."""
        cell = self.address
        if cell.state == DEAD:
            return
        cell.state = DEAD
        box, cell.box = cell.box, None
        own = (WakeupMessage, ChildActorExited, ActorFailed)  # no concern of a successor
        self.undelivered = tuple((m, s) for _, m, s in box or () if not isinstance(m, own))
        for _, message, sender in box or ():
            if isinstance(message, ActorFailed):  # its mail, too
                cell.base.undeliverable(cell, message, sender)

    def hand_over(self, successor: "Cell") -> None:
        """Give the undelivered mail to ``successor``, before anything else is sent to it."""
        successor.restarts = self.address.restarts + 1
        successor.last_error = repr(self.error)
        successor.take_over(self.undelivered)


class Reply(ActorAddress):  # type: ignore[misc]
    """The return address of one request. The first answer counts."""

    __slots__ = ("future",)
    _aaddr = "reply"

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def deliver(self, message: Any, sender: Any) -> None:
        if not self.future.done():
            self.future.set_result(message)

    def refuse(self, cell: "Cell", cause: BaseException | None = None) -> None:
        """No answer will come."""
        if not self.future.done():
            error = ActorGone(cell)
            error.__cause__ = cause
            self.future.set_exception(error)


class Cell(ActorAddress):  # type: ignore[misc]
    """An actor as the system knows it. It is its own address, equal only to itself.

    One object for both means no cycle: an ended actor is freed with the last reference to it.
    The methods in camel case and ``actor_send`` are what ``thespian.actors.Actor`` calls.
    """

    __slots__ = (
        "_aaddr", "actor", "base", "born", "box", "globalName", "kids", "last_error", "parent",
        "pending_wakeup_count", "restarts", "state", "task",
    )  # fmt: skip

    def __init__(self, base: Base, parent: "Cell | None", number: int, actor: Any) -> None:
        self._aaddr: int | str = number
        self.base = base
        self.parent = parent
        self.actor = actor
        self.state = IDLE
        self.box: deque[Letter] | None = None  # behind the letter that the base holds when READY
        self.kids: dict[Cell, None] | None = None  # until everything below them has ended, too
        self.task: asyncio.Task[None] | None = None  # of a handler that awaits
        self.globalName = ""
        self.pending_wakeup_count = 0
        self.restarts = 0
        self.last_error = ""
        self.born = base.now()

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        what = "ended actor" if self.actor is None else type(self.actor).__name__
        return f"<{what} {self._aaddr}>"

    def __reduce__(self) -> str:
        raise TypeError("addresses of the embedded system do not leave their process")

    # ---- mail -----------------------------------------------------------------------------------

    def deliver(self, message: Any, sender: Any) -> None:
        """Put a letter in the mailbox. Raises Overloaded when that is full."""
        state = self.state
        if state == IDLE:
            self.state = READY
            base = self.base
            base.ready.append((self, message, sender))
            if not base.is_scheduled:
                base.schedule()
        elif state == DEAD:
            self.base.undeliverable(self, message, sender)
        elif self.box is None:
            self.box = deque(((self, message, sender),))
        elif len(self.box) < self.base.mailbox_limit or isinstance(message, ActorSystemMessage):
            self.box.append((self, message, sender))
        else:
            raise Overloaded(
                f"{self!r} has {len(self.box)} messages waiting, which is the limit; send later"
            )

    def take_over(self, letters: tuple[tuple[Any, Any], ...]) -> None:
        """Mail of a predecessor; it was within the limit there."""
        box = deque((self, message, sender) for message, sender in letters)
        if box and self.state == IDLE:
            self.state = READY
            self.base.ready.append(box.popleft())
            self.base.schedule()
        self.box = deque((*(self.box or ()), *box)) or None

    @property
    def mailbox_depth(self) -> int:
        return len(self.box or ()) + (self.state == READY)

    @property
    def is_over(self) -> bool:
        return self.state >= DEAD

    @property
    def is_gone(self) -> bool:
        """It has ended, and everything below it too."""
        return self.state >= DEAD and not self.kids

    def info(self, now: float, level: int) -> ActorInfo:
        return ActorInfo(
            class_name="" if self.actor is None else type(self.actor).__name__,
            address=str(self._aaddr),
            level=level,
            name=self.globalName,
            state=("idle", "ready", "busy", "ending", "ending")[self.state],
            age_s=now - self.born,
            mailbox_depth=self.mailbox_depth,
            restarts=self.restarts,
            last_error=self.last_error,
        )

    # ---- what thespian.actors.Actor calls -------------------------------------------------------

    @property
    def address(self) -> "Cell":
        return self

    def actor_send(self, to: Any, message: Any) -> None:
        try:
            deliver = to.deliver
        except AttributeError:
            raise InvalidActorAddress(to, "not an address of an embedded actor system") from None
        deliver(message, self)

    def createActor(
        self,
        cls: type | str,
        requirements: dict[str, Any] | None = None,
        name: str | None = None,
        source_hash: str | None = None,
    ) -> "Cell":
        if source_hash is not None:
            raise InvalidActorSourceHash(source_hash)
        return self.base.create(cls, self, requirements, name)

    def wakeupAfter(self, period: Any, payload: Any = None) -> None:
        delay_s = timePeriodSeconds(period)
        self.base.wakeups.arm(self, delay_s, WakeupMessage(period, payload))

    def handleDeadLetters(self, address: "Cell", enable: bool) -> None:
        self.base.handle_dead_letters(address, enable)

    def updateCapability(self, name: str, value: Any = None) -> None:
        self.base.updateCapability(name, value)

    def notifyOnSystemRegistrationChanges(self, address: "Cell", enable: bool) -> None:
        """No other system ever joins this one."""

    def notifyOnSourceAvailability(self, address: "Cell", enable: bool) -> None:
        """No source is ever loaded into this one."""

    def actorSystemShutdown(self) -> None:
        self.base.shutdown()


class Outside(Cell):
    """The program around the actors: parent of those without a parent, sender of what is told."""

    __slots__ = ("listener",)

    def __init__(self, base: Base) -> None:
        super().__init__(base, None, 0, None)
        self._aaddr = "/"
        self.kids = {}
        self.listener: asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return "<outside>"

    def deliver(self, message: Any, sender: Any) -> None:
        listener, self.listener = self.listener, None
        if listener is not None and not listener.done():
            listener.set_result(message)
        else:
            self.base.undeliverable(self, message, sender)
