"""What leaves on one HTTP/2 connection: in which order, how much, and when. One write a turn of the loop.

Control frames go first, in the order they were made; then the streams with data take turns, a frame each,
as far as the peer's windows and the socket allow. h2 holds the windows towards the peer. Reading is stopped
while the peer does not take our answers to its control frames, so nothing here grows without bound.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.stream import StreamInputs

from perdure.actors.remote.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME_BYTES,
    PING,
    WINDOW_UPDATE,
    frame_header,
)
from perdure.actors.remote.http2_stream import LOW_WATER_BYTES, Http2Stream

_WINDOW_UPDATE_FRAME = struct.Struct(">HBBBLL")
_TURN_BYTES = 128 * 1024  # sent in one turn of the loop, so that others get theirs
_SOCKET_HIGH_WATER_BYTES = 256 * 1024
_STUCK_BYTES = 256 * 1024  # control frames that the peer has not taken


class Outbox:
    """Writes for one connection; ``on_room`` is called when the socket takes bytes again."""

    def __init__(
        self, h2: H2Connection, loop: asyncio.AbstractEventLoop, on_room: Callable[[], None]
    ) -> None:
        self._h2 = h2
        self._loop = loop
        self._on_room = on_room
        self._transport: asyncio.Transport | None = None
        self._control: list[bytes] = []
        self._control_size = 0
        self._ready: deque[Http2Stream] = deque()
        self._scheduled = False
        self._paused = False
        self._reading_stopped = False

    @property
    def is_stuck(self) -> bool:
        """The socket takes nothing at present."""
        return self._paused

    def connect(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=_SOCKET_HIGH_WATER_BYTES)

    def disconnect(self) -> None:
        """The socket is gone; nothing is written any more."""
        self._paused = True
        self._transport = None

    def put_head(self, stream_id: int, block: bytes) -> None:
        """HEADERS, and CONTINUATION frames where the block is longer than a frame."""
        if len(block) <= MAX_FRAME_BYTES:
            self._put(frame_header(len(block), HEADERS, END_HEADERS, stream_id) + block)
            return
        kind = HEADERS
        for at in range(0, len(block), MAX_FRAME_BYTES):
            piece = block[at : at + MAX_FRAME_BYTES]
            flags = END_HEADERS if at + MAX_FRAME_BYTES >= len(block) else 0
            self._put(frame_header(len(piece), kind, flags, stream_id) + piece)
            kind = CONTINUATION

    def put_window_update(self, stream_id: int, increment: int) -> None:
        self._put(_WINDOW_UPDATE_FRAME.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment))

    def put_ping_answer(self, payload: bytes) -> None:
        self._put(frame_header(8, PING, ACK, 0) + payload)

    def take(self) -> None:
        """Put what h2 has made."""
        made = self._h2.data_to_send()
        if made:
            self._put(made)

    def queue(self, stream: Http2Stream) -> None:
        """Let ``stream`` have its turns until all of it has left or its window is used up."""
        stream.queued = True
        self._ready.append(stream)
        self.wake()

    def requeue(self, stream: Http2Stream) -> None:
        """The stream's window may have room again."""
        if stream.out and not stream.queued:
            self.queue(stream)

    def finish(self, stream: Http2Stream) -> None:
        """The response is complete. What the request still has is not wanted: reset, which peers take better
        than further frames (hypercorn drops the connection at DATA for a stream that it has answered).
        """
        if not stream.peer.closed:
            self._h2.reset_stream(stream.id, ErrorCodes.CANCEL)
            self.take()

    def wake(self) -> None:
        """Write in the next turn of the loop."""
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def say_goodbye(self, code: ErrorCodes) -> None:
        """GOAWAY after all control frames; h2 has made it already where it raised the error itself."""
        made = self._h2.data_to_send()
        if not made:
            self._h2.close_connection(code)
            made = self._h2.data_to_send()
        self._control.append(made)
        if self._transport is not None:
            self._transport.write(b"".join(self._control))
        self._control.clear()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._reading_stopped and self._transport is not None:
            self._reading_stopped = False
            self._transport.resume_reading()
        self.wake()
        self._on_room()

    # ---- inside --------------------------------------------------------------------------------

    def _put(self, frame: bytes) -> None:
        self._control.append(frame)
        self._control_size += len(frame)
        if not self._paused:
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._flush)
        elif self._control_size > _STUCK_BYTES and not self._reading_stopped and self._transport:
            self._reading_stopped = True
            self._transport.pause_reading()

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        if self._paused or transport is None or transport.is_closing():
            return
        parts: list[bytes | memoryview] = list(self._control)
        self._control.clear()
        self._control_size = 0
        if self._ready:
            self._fill(parts)
        if parts:
            transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _fill(self, parts: list[bytes | memoryview]) -> None:
        """Frames of the streams in turn, until all are sent, the windows are used up, or it is enough."""
        h2 = self._h2
        ready = self._ready
        room = min(h2.outbound_flow_control_window, _TURN_BYTES)
        starved: list[Http2Stream] = []
        eased: list[Http2Stream] = []
        while ready:
            stream = ready.popleft()
            if stream.over or stream.ended or not (stream.out or stream.input_closed):
                stream.queued = False
                continue
            size = min(
                room, stream.peer.outbound_flow_control_window, MAX_FRAME_BYTES, stream.out_size
            )
            if size <= 0 and stream.out:
                if room > 0:
                    stream.queued = False  # its own window; WINDOW_UPDATE brings it back
                else:
                    starved.append(stream)
                continue
            is_last = stream.input_closed and size == stream.out_size
            parts.append(frame_header(size, DATA, END_STREAM if is_last else 0, stream.id))
            _cut(stream, size, parts)
            room -= size
            h2.outbound_flow_control_window -= size
            stream.peer.outbound_flow_control_window -= size
            if is_last:
                stream.peer.state_machine.process_input(StreamInputs.SEND_END_STREAM)
            if size < stream.out_size:
                ready.append(stream)
            else:
                stream.queued = False
            stream.out_size -= size
            if stream.over_low and stream.out_size < LOW_WATER_BYTES:
                stream.over_low = False
                eased.append(stream)
        ready.extend(starved)
        if starved and h2.outbound_flow_control_window > 0:
            self.wake()
        for stream in eased:
            stream.ease()


def _cut(stream: Http2Stream, size: int, parts: list[bytes | memoryview]) -> None:
    """Move the first ``size`` bytes of what waits on ``stream`` to ``parts``, without copying."""
    out = stream.out
    if size == stream.out_size:
        parts.extend(out)
        out.clear()
        return
    while size:
        piece = out.popleft()
        if len(piece) > size:
            view = memoryview(piece)
            parts.append(view[:size])
            out.appendleft(view[size:])
            return
        parts.append(piece)
        size -= len(piece)
