"""One HTTP/2 exchange as its user sees it: what waits to leave, what waits to be delivered, and its end.

Frames and windows are the connection's business (http2.py); this file holds only the state of one stream.
"""

import asyncio
from collections import deque
from typing import Protocol

from h2.stream import H2Stream

from perdure.actors.remote.http2_headers import Head
from perdure.actors.remote.port import HttpRequest, Receiver, TransportFailed

LOW_WATER_BYTES = 64 * 1024


class Home(Protocol):
    """Where a stream lives: in the pool's queue first, then on a connection."""

    def wrote(self, stream: "Http2Stream") -> None:
        """Something is to be sent: data, or the end of it."""

    def delivered(self, stream: "Http2Stream", size: int) -> None:
        """Bytes that were held back have now reached the receiver, or never will."""

    def dropped(self, stream: "Http2Stream") -> None:
        """The user has aborted it."""


class Http2Stream:
    """The ``Stream`` of the port. ``over`` is final: from then on the receiver hears nothing."""

    __slots__ = (
        "credit_due",
        "ended",
        "head",
        "held",
        "held_size",
        "home",
        "id",
        "input_closed",
        "left",
        "loop",
        "out",
        "out_size",
        "over",
        "over_low",
        "paused",
        "peer",
        "queued",
        "receiver",
        "request",
        "resuming",
        "window",
    )

    id: int  # on its connection
    peer: H2Stream  # h2's view of it; both from its beginning on a connection

    def __init__(
        self, request: HttpRequest, receiver: Receiver, home: Home, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.request = request
        self.receiver = receiver
        self.home = home
        self.loop = loop
        self.out: deque[bytes | memoryview] = deque()
        self.out_size = 0
        self.over_low = False
        self.input_closed = False
        self.queued = False  # for sending; the connection's mark
        self.head: Head | None = None
        self.left: int | None = None  # bytes that content-length still promises
        self.window = 0  # what the peer may still send
        self.credit_due = 0  # delivered, and not yet given back to the peer's window
        self.held: deque[bytes] | None = None  # None: data goes straight through
        self.held_size = 0
        self.paused = False
        self.resuming = False
        self.ended = False  # the response is complete, though perhaps not delivered
        self.over = False

    # ---- the port ----------------------------------------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        return self.out_size

    def write(self, data: bytes) -> None:
        if self.over or self.ended or self.input_closed or not data:
            return
        self.out.append(data)
        self.out_size += len(data)
        if self.out_size > LOW_WATER_BYTES:
            self.over_low = True
        if not self.queued:
            self.home.wrote(self)

    def close_input(self) -> None:
        if self.over or self.ended or self.input_closed:
            return
        self.input_closed = True
        if not self.queued:
            self.home.wrote(self)

    def pause(self) -> None:
        if self.over:
            return
        self.paused = True
        if self.held is None:
            self.held = deque()

    def resume(self) -> None:
        self.paused = False
        if self.held is not None and not self.resuming and not self.over:
            self.resuming = True
            self.loop.call_soon(self._deliver_held)

    def open_gate(self) -> None:
        """The peer does not wait for one."""

    def abort(self) -> None:
        if self.over:
            return
        self.over = True
        self._let_go()
        self.home.dropped(self)

    # ---- for the connection and the pool ------------------------------------------------------

    def deliver_head(self, head: Head) -> None:
        try:
            self.receiver.on_head(head.status, head.headers)
        except Exception as error:
            self.receiver_raised(error)

    def deliver(self, data: bytes) -> bool:
        """Pass ``data`` on, or hold it while paused; whether it was passed on."""
        if self.held is not None:
            self.held.append(data)
            self.held_size += len(data)
            return False
        try:
            self.receiver.on_data(data)
        except Exception as error:
            self.receiver_raised(error)
        return True

    def end(self) -> None:
        """The response is complete; the receiver hears it when it has had all data."""
        self.ended = True
        self._let_go_input()
        if self.held is None:
            self._tell_end()

    def fail(self, error: TransportFailed) -> None:
        if self.over:
            return
        self.over = True
        self._let_go()
        try:
            self.receiver.on_failed(error)
        except Exception as problem:
            self._report(problem)

    def ease(self) -> None:
        """What waits to leave has fallen below the low-water mark."""
        if not self.over:
            try:
                self.receiver.on_writable()
            except Exception as error:
                self.receiver_raised(error)

    def receiver_raised(self, error: Exception) -> None:
        """A receiver's mistake ends its own stream; its neighbours on the connection go on."""
        self._report(error)
        if self.over:
            return
        self.over = True
        self._let_go()
        self.home.dropped(self)
        try:
            self.receiver.on_failed(
                TransportFailed(f"the receiver of the stream raised: {error!r}")
            )
        except Exception as again:
            self._report(again)

    # ---- inside ------------------------------------------------------------------------------

    def _deliver_held(self) -> None:
        self.resuming = False
        held = self.held
        while held and not self.paused and not self.over:
            data = held.popleft()
            self.held_size -= len(data)
            try:
                self.receiver.on_data(data)
            except Exception as error:
                self.receiver_raised(error)
            self.home.delivered(self, len(data))
        if self.over or self.paused:
            return
        self.held = None
        if self.ended:
            self._tell_end()

    def _tell_end(self) -> None:
        self.over = True
        try:
            self.receiver.on_end()
        except Exception as error:
            self._report(error)

    def _let_go(self) -> None:
        self._let_go_input()
        size, self.held_size = self.held_size, 0
        self.held = None
        if size:
            self.home.delivered(self, size)

    def _let_go_input(self) -> None:
        self.out.clear()
        self.out_size = 0
        self.over_low = False

    def _report(self, error: Exception) -> None:
        self.loop.call_exception_handler(
            {"message": f"The receiver of {self.request.path} raised", "exception": error}
        )
