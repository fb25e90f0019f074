"""Our Thespian system base: actors in one process, on one asyncio loop.

``ActorSystem(systemBase=AsyncioSystemBase(loop))`` runs Thespian's ``Actor`` classes unchanged. Here are
mailboxes, delivery, and the life and death of actors; what an actor does is not known here, and no
other process is reached from here. Everything belongs to the loop's thread; other threads go through
``loop.call_soon_threadsafe``. Reasons: docs/decisions/0002.

Kept: an actor handles one message at a time, also across ``await``. What A sends to B arrives in order,
whatever B sends meanwhile. A handler never runs inside another one. An end is told once.
"""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Iterator
from contextvars import copy_context
from random import Random
from typing import Any

from thespian.actors import (
    ActorExitRequest,
    ActorSystemMessage,
    ChildActorExited,
    DeadEnvelope,
    InvalidActorSourceHash,
    PoisonMessage,
)
from thespian.system.timing import timePeriodSeconds

from perdure.actors.cell import (
    BUSY,
    DEAD,
    FAILED,
    IDLE,
    READY,
    ActorFailed,
    ActorGone,
    ActorInfo,
    Cell,
    Letter,
    Outside,
    Reply,
)
from perdure.actors.classes import ActorClasses
from perdure.actors.wakeups import Wakeups

# A message that made a handler of a plain Thespian actor raise is given to it once more.
RETRY_COUNT = 1
# Messages per turn of the loop, before sockets and timers get their turn again.
TURN_BUDGET = 64
MAILBOX_LIMIT = 10_000
STOP_GRACE_S = 5.0

_log = logging.getLogger("perdure.actors")


class AsyncioSystemBase:
    """A Thespian system base on ``loop``.

    ``mailbox_limit``: waiting messages per actor; one more from ``send`` or ``tell`` raises Overloaded
    at the sender. Messages of the system itself (exits, wakeups, poison) always get in.
    ``rng``: where given, the next actor is drawn by it instead of taken in turn, one message a turn of
    the loop, so that a seed explores the orders that can happen.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        capabilities: dict[str, Any] | None = None,
        *,
        mailbox_limit: int = MAILBOX_LIMIT,
        turn_budget: int = TURN_BUDGET,
        rng: Random | None = None,
    ) -> None:
        self.loop = loop
        self.capabilities = {"Thespian ActorSystem Name": "asyncio", **(capabilities or {})}
        self.mailbox_limit = mailbox_limit
        self.dead_letter_count = 0
        self.now = loop.time
        self.root = Outside(self)
        self.wakeups = Wakeups(loop)
        self.ready: deque[Letter] = deque()  # the next letter of each actor that has one
        self.is_scheduled = False
        self._budget = turn_budget if rng is None else 1
        self._rng = rng
        self._turn = self._run if rng is None else self._run_any
        self._context = copy_context()  # handlers see no caller's context variables
        self._names: dict[str, Cell] = {}
        self._dead_letter_actors: dict[Cell, None] = {}
        self._gone_futures: dict[Cell, list[asyncio.Future[None]]] = {}
        self._classes = ActorClasses(self.capabilities)
        self._created_count = 0
        self._shutdown: asyncio.Task[None] | None = None  # a task needs somebody who holds it

    # ---- creation -------------------------------------------------------------------------------

    def spawn(self, cls: type, parent: Cell | None = None, *args: Any) -> Cell:
        """The short way: create ``cls(*args)`` under ``parent`` and return its address.

        What the constructor raises is raised here, as NoCompatibleSystemForActor is.
        """
        self._classes.require(cls)
        return self._place(cls(*args), self.root if parent is None else parent, None)

    def create(
        self, cls: type | str, parent: Cell, requirements: dict[str, Any] | None, name: str | None
    ) -> Cell:
        """Thespian's way: a name is looked up first; a child that cannot be made is one that exited."""
        if name and name in self._names:
            return self._names[name]
        try:
            actor = self._classes.make(cls, requirements)
        except Exception as error:
            if parent is self.root:
                raise
            _log.error("actor %s could not be created", cls, exc_info=error)
            stillborn = Cell(self, parent, 0, None)
            stillborn.state = DEAD
            parent.deliver(ChildActorExited(stillborn), self.root)
            return stillborn
        return self._place(actor, parent, name)

    def _place(self, actor: Any, parent: Cell, name: str | None) -> Cell:
        if parent.state >= DEAD:  # what has ended, or the whole system, gets no new children
            raise ActorGone(parent)
        self._created_count += 1
        cell = Cell(self, parent, self._created_count, actor)
        actor._myRef = cell
        if parent.kids is None:
            parent.kids = {cell: None}
        else:
            parent.kids[cell] = None
        if name:
            cell.globalName = name
            self._names[name] = cell
        return cell

    # ---- delivery -------------------------------------------------------------------------------

    def schedule(self) -> None:
        """There is something in ``ready``: take a turn soon."""
        if not self.is_scheduled:
            self.is_scheduled = True
            self.loop.call_soon(self._turn, context=self._context)

    def _run_any(self) -> None:
        assert self._rng is not None
        if self.ready:
            self.ready.rotate(-self._rng.randrange(len(self.ready)))
        self._run()

    def _run(self) -> None:
        """One turn: up to the budget of messages, one of each ready actor after the other."""
        ready = self.ready
        left = self._budget
        try:
            while ready and left:
                left -= 1
                letter = ready.popleft()
                cell, message, sender = letter
                if cell.state != READY:  # killed while it waited
                    self.undeliverable(cell, message, sender)
                    continue
                cell.state = BUSY
                system = isinstance(message, ActorSystemMessage)
                if system and isinstance(message, ActorFailed):
                    message.close()
                try:
                    result = cell.actor.receiveMessage(message, sender)
                except BaseException as error:
                    self._failed(letter, error, RETRY_COUNT)
                    continue
                if result is not None and hasattr(result, "__await__"):
                    cell.task = self.loop.create_task(self._serve(letter, result, RETRY_COUNT))
                elif system:
                    self._handled(cell, message)
                elif cell.box:
                    cell.state = READY
                    ready.append(cell.box.popleft())
                else:
                    cell.state = IDLE
                    cell.box = None
        finally:
            if ready:
                self.loop.call_soon(self._turn, context=self._context)
            else:
                self.is_scheduled = False

    async def _serve(self, letter: Letter, pending: Awaitable[Any], retries: int) -> None:
        """Await a handler, then go on with the mailbox: one task a busy period, not one a message."""
        left = self._budget
        while True:
            cell, message, _ = letter
            try:
                await pending
            except BaseException as error:
                cell.task = None
                if cell.state < DEAD:
                    self._failed(letter, error, retries)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            left -= 1
            box = cell.box
            if not left or not box or cell.state >= DEAD:
                break
            if isinstance(message, ActorSystemMessage) or isinstance(box[0][1], ActorSystemMessage):
                break
            letter = box.popleft()
            cell, message, sender = letter
            retries = RETRY_COUNT
            try:
                pending = cell.actor.receiveMessage(message, sender)
            except BaseException as error:
                cell.task = None
                return self._failed(letter, error, retries)
            if pending is None or not hasattr(pending, "__await__"):
                break
        cell.task = None
        self._handled(cell, message)

    def _handled(self, cell: Cell, message: Any) -> None:
        """The handler is through with ``message``: on to the next one, or to the end."""
        if cell.state >= DEAD:
            return
        if isinstance(message, ActorExitRequest):
            self._end(cell, message.isRecursive)
            self._tell_parent(cell, ChildActorExited(cell))
        elif cell.box:
            cell.state = READY
            self.ready.append(cell.box.popleft())
            self.schedule()
        else:
            cell.state = IDLE
            cell.box = None

    # ---- failure --------------------------------------------------------------------------------

    def _failed(self, letter: Letter, error: BaseException, retries: int) -> None:
        """A handler raised. Called where the error is being handled."""
        cell, message, _ = letter
        if isinstance(message, ActorExitRequest):
            _log.error("%r failed while it ended", cell, exc_info=error)
            self._handled(cell, message)
        elif getattr(cell.actor, "restart_on_error", False):
            self._crash(letter, error)
        elif retries and isinstance(error, Exception):
            self._retry(letter, retries - 1)  # in place: no later message overtakes this one
        else:
            self._poisoned(letter, error)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error

    def _retry(self, letter: Letter, retries: int) -> None:
        cell, message, sender = letter
        try:
            result = cell.actor.receiveMessage(message, sender)
        except BaseException as error:
            return self._failed(letter, error, retries)
        if result is not None and hasattr(result, "__await__"):
            cell.task = self.loop.create_task(self._serve(letter, result, retries))
        else:
            self._handled(cell, message)

    def _poisoned(self, letter: Letter, error: BaseException) -> None:
        """The actor lives on; whoever sent the message gets it back."""
        cell, message, sender = letter
        _log.error("%r cannot handle a %s", cell, type(message).__name__, exc_info=error)
        cell.last_error = repr(error)
        self._drop_pieces(message)
        if not isinstance(message, PoisonMessage):
            details = "".join(traceback.format_exception(error))
            sender.deliver(PoisonMessage(message, details), cell)
        self._handled(cell, message)

    def _crash(self, letter: Letter, error: BaseException) -> None:
        """Let it crash: the actor ends, and its parent gets the pieces."""
        cell, message, sender = letter
        notice = ActorFailed(cell, error, message, sender)
        self._drop_pieces(message)
        if isinstance(sender, Reply):
            sender.refuse(cell, error)
        if cell.parent is self.root:  # nobody to restart it
            context = {"message": f"{cell!r} failed and has no parent", "exception": error}
            self.loop.call_exception_handler(context)
            self._end(cell, recursive=True)
        else:
            self._end(cell, recursive=True, keep_mail=True)
            self._tell_parent(cell, notice)

    # ---- the end --------------------------------------------------------------------------------

    def _end(self, cell: Cell, recursive: bool, keep_mail: bool = False) -> None:
        """The actor handles nothing any more. Its children are asked to end, or go to the system."""
        cell.state = FAILED if keep_mail else DEAD
        if cell.task is not None:
            cell.task.cancel()
            cell.task = None
        self.wakeups.forget(cell)
        if cell.globalName:
            del self._names[cell.globalName]
        if self._dead_letter_actors:
            self._dead_letter_actors.pop(cell, None)
        if not keep_mail and cell.box:
            box, cell.box = cell.box, None
            for _, message, sender in box:
                self.undeliverable(cell, message, sender)
        for kid in tuple(cell.kids or ()):
            if recursive:
                kid.deliver(ActorExitRequest(), cell)
            else:
                self._adopt(kid)
        cell.actor = None
        if not cell.kids:
            self._gone(cell)

    def _adopt(self, kid: Cell) -> None:
        """The parent of ``kid`` left it behind."""
        assert kid.parent is not None
        assert kid.parent.kids is not None
        assert self.root.kids is not None
        del kid.parent.kids[kid]
        kid.parent = self.root
        self.root.kids[kid] = None
        if self.root.state >= DEAD:
            kid.deliver(ActorExitRequest(), self.root)

    def _gone(self, cell: Cell) -> None:
        """``cell`` and everything below it have ended."""
        for future in self._gone_futures.pop(cell, ()):
            if not future.done():
                future.set_result(None)
        parent = cell.parent
        if parent is not None:
            assert parent.kids is not None
            del parent.kids[cell]
            if parent.state >= DEAD and not parent.kids:
                self._gone(parent)

    def _tell_parent(self, cell: Cell, notice: Any) -> None:
        parent = cell.parent
        if parent is not None and parent is not self.root:
            parent.deliver(notice, self.root)

    def _kill(self, cell: Cell) -> None:
        """End an actor that does not listen any more."""
        _log.warning("%r did not end when asked and is killed", cell)
        self._end(cell, recursive=True)
        self._tell_parent(cell, ChildActorExited(cell))

    async def stop(self, cell: Cell, grace_s: float = STOP_GRACE_S) -> None:
        """End ``cell`` and everything below it; what has not ended after ``grace_s`` is killed."""
        if cell is self.root:
            self.root.state = DEAD  # nothing new from now on
            for kid in tuple(self.root.kids or ()):
                kid.deliver(ActorExitRequest(), self.root)
        else:
            cell.deliver(ActorExitRequest(), self.root)
        while not cell.is_gone:
            gone = self.loop.create_future()
            self._gone_futures.setdefault(cell, []).append(gone)
            await asyncio.wait((gone,), timeout=grace_s)
            if gone.done():
                return
            tasks = [each.task for each, _ in self._walk(cell) if each.task is not None]
            for each, _ in tuple(self._walk(cell)):
                if each.state < DEAD:
                    self._kill(each)
            if tasks:  # let them clean up
                await asyncio.wait(tasks, timeout=grace_s)

    def undeliverable(self, cell: Cell, message: Any, sender: Any) -> None:
        """Mail for an actor that has ended: to the dead letter actors; who waits is told at once."""
        self._drop_pieces(message)
        if isinstance(message, ActorSystemMessage):
            return
        self.dead_letter_count += 1
        if isinstance(sender, Reply):
            sender.refuse(cell)
        for actor in self._dead_letter_actors:
            if actor.mailbox_depth < self.mailbox_limit:
                actor.deliver(DeadEnvelope(cell, message), sender)

    def _drop_pieces(self, message: Any) -> None:
        """Nobody is left who would give the mail of a failed actor to a successor."""
        if isinstance(message, ActorFailed):
            message.close()
            for letter in message.undelivered:
                self.undeliverable(message.address, *letter)

    # ---- looking at it --------------------------------------------------------------------------

    def iter_actors(self) -> Iterator[ActorInfo]:
        """Every actor, parents before their children, in order of creation."""
        now = self.now()
        for cell, level in self._walk(self.root):
            if cell is not self.root:
                yield cell.info(now, level)

    def _walk(self, cell: Cell, level: int = -1) -> Iterator[tuple[Cell, int]]:
        yield cell, level
        for kid in tuple(cell.kids or ()):
            yield from self._walk(kid, level + 1)

    # ---- what ActorSystem and ActorSystem.private() call ----------------------------------------

    def newPrimaryActor(
        self,
        cls: type | str,
        requirements: dict[str, Any] | None,
        name: str | None,
        source_hash: str | None = None,
    ) -> Cell:
        if source_hash is not None:
            raise InvalidActorSourceHash(source_hash)
        return self.create(cls, self.root, requirements, name)

    def tell(self, to: Any, message: Any) -> None:
        self.root.actor_send(to, message)

    def request(self, to: Any, message: Any) -> asyncio.Future[Any]:
        """Send with a return address of its own; the future gets the first answer to it.

        It raises ActorGone when the actor had ended or fails over the message.
        """
        future = self.loop.create_future()
        to.deliver(message, Reply(future))
        return future

    def ask(self, to: Any, message: Any, timeout: Any = None) -> Any:
        """Blocks: only for programs that do not run the loop themselves. None when time is up."""
        return self._block(self.request(to, message), timeout)

    def listen(self, timeout: Any = None) -> Any:
        """The next message to the outside, as an answer to ``tell``; others are dead letters."""
        self.root.listener = future = self.loop.create_future()
        return self._block(future, timeout)

    def _block(self, future: asyncio.Future[Any], timeout: Any) -> Any:
        async def wait() -> Any:
            try:
                limit = None if timeout is None else timePeriodSeconds(timeout)
                return await asyncio.wait_for(future, limit)
            except TimeoutError:
                return None

        return self.loop.run_until_complete(wait())

    def handle_dead_letters(self, cell: Cell, enable: bool) -> None:
        if enable:
            self._dead_letter_actors[cell] = None
        else:
            self._dead_letter_actors.pop(cell, None)

    _handleDeadLetters = handle_dead_letters

    def updateCapability(self, name: str, value: Any = None) -> None:
        """Set or, with None, remove; actors whose check does not pass any more are asked to end."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value
        for cell, _ in tuple(self._walk(self.root)):
            if not self._classes.may_stay(cell.actor):
                cell.deliver(ActorExitRequest(), self.root)

    def external_clone(self) -> "AsyncioSystemBase":
        return self  # every request has its own return address already

    def exit_context(self) -> None:
        """The end of ``private()``; nothing was opened for it."""

    def shutdown(self) -> None:
        """End all actors. On a running loop they are only asked to; prefer ``await stop(root)``."""
        stop = self.stop(self.root)
        if self.loop.is_running():
            self._shutdown = self.loop.create_task(stop)
        else:
            self.loop.run_until_complete(stop)
