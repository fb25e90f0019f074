"""One attempt behind a remote server: its frames come in by ASGI's ``receive`` and go out by ``send``.

Between the handler's side (`attempt_core.py`, by `hosting.py`) and the wire (`stream_input.py`,
`stream_output.py`). One task reads, the request's own task writes, so that neither waits for the other.
Rules: service protocol 2.4, 5.7, 6.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from perdure.hosting import Hosted
from perdure.journal.attempt import (
    Attempt,
    Barrier,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import Completion, Notification, Outcome
from perdure.journal.errors import PerdureError, ProtocolError
from perdure.logcontext import target_of
from perdure.stream_input import Arrival, RunAck, StreamInput
from perdure.stream_output import frame_bytes

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]

_ACKS_SINCE: Final = 7
_ROOM_BYTES: Final = 1 << 20  # waiting to be sent; above it, ``ready`` asks to wait
_OUR_ERROR: Final = 500

log = logging.getLogger("perdure.endpoint")


class HandlerStream:
    """Implements ``journal.attempt.Sink``. ``run`` is the whole life; ``close_input`` may come any time."""

    def __init__(
        self,
        hosted: Hosted,
        reading: StreamInput,
        version: int,
        headers: RawHeaders,
        receive: Receive,
        send: Send,
    ) -> None:
        self._hosted = hosted
        self._reading = reading
        self._version = version
        self._headers = headers
        self._receive = receive
        self._send = send
        self._start: Start | None = None
        self._attempt: Attempt | None = None
        self._next_index = 0  # of the entry that comes next
        self._proposed: dict[int, Outcome] = {}  # results of runs that wait for their ack
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._barriers: list[int] = []
        self._is_over = False  # the last frame is in ``_out``, or beyond
        self._input_ended = False
        self._is_gone = False  # nobody listens any more
        self._broken: BaseException | None = None  # what ended the reading by mistake
        self._waiting: asyncio.Future[None] | None = None  # of the writer
        self._go_on: list[Callable[[], None]] = []

    # ---- the sink -------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def ready(self, go_on: Callable[[], None]) -> bool:
        if self._out_bytes < _ROOM_BYTES:
            return True
        self._go_on.append(go_on)
        return False

    def emit(self, frames: tuple[Frame, ...]) -> None:
        """Ignored after the last frame."""
        if self._is_over:
            return
        try:
            for frame in frames:
                self._put(frame)
        except PerdureError as e:
            return self._fail(Failed(e.code, str(e)))
        except (ValueError, TypeError, OverflowError) as e:
            message = f"what the handler does cannot be sent: {type(e).__name__}: {e}"
            return self._fail(Failed(_OUR_ERROR, message))
        self._wake()

    def _put(self, frame: Frame) -> None:
        data = frame_bytes(frame, self._version)
        if data:
            self._out.append(data)
            self._out_bytes += len(data)
        if isinstance(frame, Barrier):
            self._barriers.append(frame.completion_id)
        elif isinstance(frame, ProposeRun):
            if self._version >= _ACKS_SINCE:
                self._proposed[frame.completion_id] = frame.result
        elif isinstance(frame, Ended | Suspended | Failed):
            self._is_over = True
            if type(frame) is Failed:
                self._tell(frame)

    def _fail(self, failed: Failed) -> None:
        """End the attempt by an error of the stream's own."""
        if self._is_over:
            return
        self._put(failed)
        if self._attempt is not None:
            asyncio.get_running_loop().call_soon(self._attempt.abort)
        self._wake()

    def _tell(self, failed: Failed) -> None:
        start = self._start
        extra: dict[str, Any] = {"stacktrace": failed.stacktrace}
        if start is not None:
            extra["invocation_id"], extra["attempt"] = start.invocation_id, start.attempt
            extra["target"] = target_of(start)
        log.warning("an attempt failed: %d %s", failed.code, failed.message, extra=extra)

    @property
    def attempt_headers(self) -> dict[str, str]:
        """Of the request that carries this attempt."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers}

    # ---- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the first frame to the end of the response, which is not before that of the request."""
        reader = asyncio.get_running_loop().create_task(self._read())
        reader.add_done_callback(self._reader_done)
        try:
            await self._write()
            if self._broken is not None:
                raise self._broken
        except OSError:  # the client is gone; servers differ in when they say so
            self._is_gone = True
        finally:
            reader.cancel()
            if self._attempt is not None:
                self._attempt.abort()
            self._attempt = None  # cuts the cycle

    def close_input(self) -> None:
        """Ask the handler to suspend, as the end of the request would."""
        if self._attempt is not None and not self._is_over:
            self._attempt.close_input()

    async def _write(self) -> None:
        send = self._send
        while not self._is_gone:
            if self._out:
                data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
                self._out.clear()
                self._out_bytes = 0
                is_last = self._is_over and self._input_ended
                await send({"type": "http.response.body", "body": data, "more_body": not is_last})
                if is_last:
                    return
                self._flushed()
            elif self._is_over and self._input_ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                self._flushed()
                if self._out or self._is_gone or (self._is_over and self._input_ended):
                    continue
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting
                self._waiting = None

    def _flushed(self) -> None:
        """All that was said is with the server: runs may begin, and more may be said."""
        if self._barriers and self._attempt is not None:
            barriers, self._barriers = self._barriers, []
            for completion_id in barriers:
                self._attempt.pass_barrier(completion_id)
        if self._go_on and self._out_bytes < _ROOM_BYTES:
            waiting, self._go_on = self._go_on, []
            for go_on in waiting:
                go_on()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # ---- what the server says -------------------------------------------------------------------

    async def _read(self) -> None:
        receive = self._receive
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            try:
                if body := event.get("body"):
                    self._take(body)
                if not event.get("more_body", False):
                    self._end_input()
            except ProtocolError as e:
                self._fail(Failed(e.code, str(e)))

    def _reader_done(self, reader: asyncio.Task[None]) -> None:
        """Disconnected, or broken: either way there is nobody to talk to."""
        if not reader.cancelled():
            self._broken = reader.exception()
        self._is_gone = True
        self._wake()

    def _take(self, body: bytes) -> None:
        if self._is_over:
            return  # late, and harmless
        arrivals = self._reading.feed(body)
        if not arrivals:
            return
        if self._start is None:
            self._begin(arrivals.pop(0))
        if arrivals:
            self._deliver(arrivals)

    def _begin(self, start: Arrival) -> None:
        assert type(start) is Start, "nothing arrives before the start is complete"
        self._start = start
        self._next_index = len(start.entries)
        self._attempt = self._hosted.start(start, self)

    def _deliver(self, arrivals: list[Arrival]) -> None:
        assert self._attempt is not None
        entries: list[tuple[int, Notification]] = []
        for each in arrivals:
            if type(each) is RunAck:
                each = self._acknowledged(each)
            elif self._proposed and type(each) is Completion:
                self._proposed.pop(each.completion_id, None)  # the server prefers to tell all of it
            assert not isinstance(each, Start | RunAck)
            entries.append((self._next_index, each))
            self._next_index += 1
        self._attempt.deliver(tuple(entries))

    def _acknowledged(self, ack: RunAck) -> Completion:
        result = self._proposed.pop(ack.completion_id, None)
        if result is None:
            raise ProtocolError(
                f"[RT0012] the server acknowledged run {ack.completion_id}, whose result was not"
                " proposed on this stream"
            )
        return Completion(ack.completion_id, result)

    def _end_input(self) -> None:
        if self._input_ended:
            return
        self._input_ended = True
        self._wake()
        if not self._is_over:
            self._reading.end()
            if self._attempt is not None:
                self._attempt.close_input()
