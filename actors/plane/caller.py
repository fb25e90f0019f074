"""The asking end: requests to one process, held while it is away and sent again when it is back.

What may be sent twice is said with each request. Order is kept: who asked first is sent first, also
again. Everything is bounded: what is over a limit is refused with Overloaded, what waited too long for
its partition with StoreFailed, and what must not be sent twice with Indeterminate.
"""

import asyncio
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any, cast

from perdure.actors.plane.connection import FrameTooLarge
from perdure.actors.plane.dialing import Dialer, Outgoing, hello
from perdure.actors.plane.faults import raised
from perdure.actors.plane.messages import Ask, Call, Fault, Forget, Message, Told
from perdure.actors.plane.methods import METHODS
from perdure.actors.plane.options import Introduction, PlaneOptions
from perdure.journal.errors import (
    Indeterminate,
    Overloaded,
    PerdureError,
    StoreFailed,
)

log = logging.getLogger("perdure.plane")

_SPARE_COUNT = 64  # requests in the queue that nobody waits for, before it is tidied


class Pending:
    """A request without an answer. ``what`` names it in messages; ``message`` None: nobody waits."""

    __slots__ = ("future", "is_brief", "message", "repeats", "size_bytes", "was_sent", "what")

    def __init__(
        self,
        message: Call | Ask,
        future: "asyncio.Future[Any]",
        repeats: bool,
        size_bytes: int,
        what: str,
        is_brief: bool,
    ) -> None:
        self.message: Call | Ask | None = message
        self.future = future
        self.repeats = repeats
        self.size_bytes = size_bytes
        self.what = what
        self.is_brief = is_brief
        self.was_sent = False


class Caller:
    """``name`` is whom it asks, such as ``partition-2``. All methods run on one loop."""

    def __init__(self, name: str, options: PlaneOptions | None = None) -> None:
        self.name = name
        self.options = options or PlaneOptions()
        self._loop = asyncio.get_running_loop()
        self._session = os.urandom(16)
        self._dialer = Dialer(self, self._hello, self.options)
        self._connection: Outgoing | None = None
        self._number = 0
        self._pending: dict[int, Pending] = {}
        self._pending_bytes = 0
        self._unsent: deque[Pending] = deque()  # in order, while the other end is away or busy
        self._away: str = "it was not started yet"
        self._down = ""  # why it is not expected back soon
        self._gave_up = False
        self._gave_up_brief = False
        self._is_closed = False
        self._hold_timers: list[asyncio.TimerHandle] = []
        self._hold()

    # ---- life

    def introduce(self, path: Path, epoch: int) -> None:
        """Where it is from now on. Requests that it left without an answer are sent again there."""
        if self._down and not self._is_closed:
            self._down = ""
            if self._connection is None:
                self._gave_up = self._gave_up_brief = False
                self._hold()
        self._dialer.introduce(path, epoch)

    def down(self, reason: str) -> None:
        """It is not expected back soon: refuse what waits, and what comes, until it is introduced again."""
        self._down = reason
        if self._connection is None and not self._is_closed:
            self._stop_holding()
            self._refuse(self._is_down())

    async def close(self) -> None:
        """Refuse what waits, and end the connection."""
        self._is_closed = True
        self._away = "this process stops"
        self._stop_holding()
        await self._dialer.close()
        self._refuse(StoreFailed(f"{self.name}: {self._away}"))

    def health(self) -> str:
        """Empty while it can be reached; else why it can't."""
        if self._down:
            return self._down
        return "" if self._connection is not None else f"{self._away} ({self._dialer.reason})"

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def _hello(self, introduction: Introduction, connection: int) -> Any:
        return hello(self.name, introduction, self._session, connection)

    # ---- the connection's view

    def connected(self, connection: Outgoing) -> None:
        self._connection = connection
        self._gave_up = self._gave_up_brief = False
        self._stop_holding()
        self._pump()

    def disconnected(self, reason: str) -> None:
        """What may be sent again waits for its return; the rest can't be known."""
        self._connection = None
        if not self._is_closed:
            self._away = reason
        self._unsent.clear()
        for number, pending in list(self._pending.items()):
            if pending.was_sent and not pending.repeats:
                self._drop(number)
                _fail(
                    pending,
                    Indeterminate(
                        f"{self.name} went away while it had to {pending.what}, and whether it did is "
                        "not known; look, and ask again where it did not"
                    ),
                )
                continue
            self._unsent.append(pending)
        if self._down:
            self._refuse(self._is_down())
        elif not self._is_closed:
            self._hold()

    def writable(self) -> None:
        self._pump()

    def received(self, message: Message) -> None:
        pending = self._drop(getattr(message, "number", -1))
        if pending is None:
            return  # nobody waits any more
        if not pending.future.done():
            if type(message) is Fault:
                pending.future.set_exception(raised(message))
            else:
                pending.future.set_result(message)

    # ---- holding

    def _hold(self) -> None:
        options, call_later = self.options, self._loop.call_later
        self._hold_timers = [
            call_later(options.brief_hold_s, self._give_up_brief),
            call_later(options.hold_s, self._give_up),
        ]

    def _stop_holding(self) -> None:
        for timer in self._hold_timers:
            timer.cancel()

    def _give_up_brief(self) -> None:
        self._gave_up_brief = True
        error = self._is_away(self.options.brief_hold_s)
        for number, pending in list(self._pending.items()):
            if pending.is_brief:
                self._drop(number)
                pending.message = None
                _fail(pending, error)

    def _give_up(self) -> None:
        self._gave_up = True
        self._refuse(self._is_away(self.options.hold_s))

    def _is_down(self) -> StoreFailed:
        return StoreFailed(
            f"{self.name} is down: {self._down}; what it took goes on when it is back"
        )

    def _is_away(self, held_s: float) -> StoreFailed:
        return StoreFailed(
            f"{self.name} has been away for more than {held_s:g} s: {self.health()}; what it "
            "took goes on when it is back"
        )

    def _refuse(self, error: PerdureError) -> None:
        pending, self._pending = self._pending, {}
        self._pending_bytes = 0
        self._unsent.clear()
        for each in pending.values():
            _fail(each, error)

    # ---- requests

    def _admit(self, size_bytes: int, is_brief: bool) -> None:
        options, count = self.options, len(self._pending)
        if self._connection is None:
            if self._is_closed:
                raise StoreFailed(f"{self.name}: {self._away}")
            if self._down:
                raise self._is_down()
            if self._gave_up:
                raise self._is_away(options.hold_s)
            if self._gave_up_brief and is_brief:
                raise self._is_away(options.brief_hold_s)
            if count >= options.hold_limit:
                raise Overloaded(
                    f"{self.name} is away and {count} requests wait for it; try again later"
                )
        if count >= options.in_flight_limit:
            raise Overloaded(f"{count} requests are in flight to {self.name}; try again later")
        if self._pending_bytes + size_bytes > options.in_flight_limit_bytes and count:
            raise Overloaded(
                f"requests of {self._pending_bytes} bytes are in flight to {self.name}; try again later"
            )

    def next_number(self) -> int:
        self._number += 1
        return self._number

    async def request(
        self,
        message: Call | Ask,
        repeats: bool,
        size_bytes: int,
        what: str,
        is_brief: bool = False,
    ) -> Any:
        """Its answer, a message. Raises what the other side raised, and see the head of this file.

        ``message.number``: from ``next_number``, just before this.
        """
        self._admit(size_bytes, is_brief)
        number = message.number
        future: asyncio.Future[Any] = self._loop.create_future()
        pending = Pending(message, future, repeats, size_bytes, what, is_brief)
        self._pending[number] = pending
        self._pending_bytes += size_bytes
        connection = self._connection
        if connection is None or connection.paused or self._unsent:
            self._unsent.append(pending)
            self._pump()
        else:
            self._send(connection, pending, message)
        try:
            return await future
        finally:
            if number in self._pending:
                self._forget(number)

    async def ask(self, name: str, *arguments: object) -> Any:
        """Ask by a method of methods.py; the decoded answer."""
        method = METHODS[name]
        raw = method.encode(arguments)
        message = Ask(self.next_number(), name, raw)
        size_bytes = len(memoryview(raw))
        told = await self.request(message, method.repeats, size_bytes, name, method.is_brief)
        return method.decode_answer(cast(Told, told).answer)

    async def control(self, request: bytes) -> bytes:
        """Change the process, such as the code that it has loaded. Raises Indeterminate too."""
        answer: bytes = await self.ask("control", request)
        return answer

    def _drop(self, number: int) -> Pending | None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            self._pending_bytes -= pending.size_bytes
        return pending

    def _forget(self, number: int) -> None:
        """Its caller gave up."""
        pending = self._drop(number)
        assert pending is not None
        if not pending.was_sent:
            pending.message = None
            if len(self._unsent) > 2 * len(self._pending) + _SPARE_COUNT:
                self._unsent = deque(each for each in self._unsent if each.message is not None)
        elif self._connection is not None:
            self._connection.send(Forget(number))

    def _pump(self) -> None:
        """Send what waits, as long as the other end takes it."""
        connection, unsent = self._connection, self._unsent
        while unsent and connection is not None and not connection.paused:
            pending = unsent.popleft()
            if pending.message is not None:
                self._send(connection, pending, pending.message)

    def _send(self, connection: Outgoing, pending: Pending, message: Call | Ask) -> None:
        if pending.was_sent and type(message) is Call:
            message.is_new = False
        try:
            connection.send(message)
        except (FrameTooLarge, UnicodeEncodeError) as error:
            self._drop(message.number)
            _fail(pending, error)
            return
        pending.was_sent = True


def _fail(pending: Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
