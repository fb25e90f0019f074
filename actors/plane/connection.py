"""One connection: frames in, frames out, and a stop when the other end can't keep up.

A frame is a length, four bytes big-endian, and that many bytes of msgpack. Everything that is sent in one
turn of the loop leaves in one write. Who says what is not known here.
"""

import asyncio
import logging
import struct
from abc import ABC, abstractmethod
from typing import cast

import msgspec

from perdure.actors.plane import messages
from perdure.actors.plane.messages import Message
from perdure.actors.plane.sockets import UnsafeSocket, check_peer
from perdure.journal.errors import PerdureError, ProtocolError

log = logging.getLogger("perdure.plane")

HELLO_LIMIT_BYTES = 4_096  # of a frame of somebody who has not said hello yet

_LENGTH = struct.Struct(">I")
_WRITE_BYTES = 256 << 10  # more than that is written at once, not at the end of the turn
_HIGH_WATER_BYTES = 1 << 20  # of what the kernel did not take yet


class FrameTooLarge(PerdureError):
    """A request or an answer is larger than a frame may be."""

    code = 413


class Connection(asyncio.Protocol, ABC):
    """``paused``: the other end does not read; what can wait shall wait until ``writable``."""

    def __init__(self, frame_limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._frame_limit_bytes = frame_limit_bytes
        self._read_limit_bytes = min(HELLO_LIMIT_BYTES, frame_limit_bytes)
        self._is_greeted = False
        self._transport: asyncio.Transport | None = None
        self._out = bytearray()
        self._will_flush = False
        self._rest = bytearray()  # the beginning of a frame, or the length of one
        self._needed = 0  # bytes that ``_rest`` has to have before it is worth a look
        self.paused = False
        self.is_open = False

    # ---- what it is for

    @abstractmethod
    def received(self, message: Message) -> None:
        """Raises ProtocolError where the message has no place here."""

    @abstractmethod
    def lost(self, reason: str) -> None:
        """The connection is over; called once, for one that was open."""

    def opened(self) -> None:
        """It can be used, and the peer is one of ours."""

    def writable(self) -> None:
        """The other end reads again."""

    def head(self, frame: memoryview) -> None:
        """Called with each frame until the hello is over."""

    # ---- out

    def send(self, message: Message) -> None:
        """Send at the end of this turn. Raises FrameTooLarge. Dropped where the connection is over."""
        out = self._out
        start = len(out)
        out += b"\0\0\0\0"
        try:
            messages.encoder.encode_into(message, out, start + 4)
            size = len(out) - start - 4
            if size > self._frame_limit_bytes:
                raise FrameTooLarge(
                    f"{size} bytes are more than the {self._frame_limit_bytes} that go from one process "
                    "to another at a time"
                )
            _LENGTH.pack_into(out, start, size)
        except BaseException:
            del out[start:]
            raise
        if len(out) > _WRITE_BYTES:
            self.flush()
        elif not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._will_flush = False
        self.flush()

    def flush(self) -> None:
        out = self._out
        if out:
            self._out = bytearray()
            if (transport := self._usable()) is not None:
                transport.write(out)

    def _usable(self) -> asyncio.Transport | None:
        """A transport that is closing refuses everything; its end is told a turn later."""
        transport = self._transport
        return transport if self.is_open and transport and not transport.is_closing() else None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.is_open:
            self.writable()

    # ---- in

    def read_all(self) -> None:
        """The hello is over: frames of every size are welcome."""
        self._read_limit_bytes = self._frame_limit_bytes
        self._is_greeted = True

    def pause_reading(self) -> None:
        if (transport := self._usable()) is not None:
            transport.pause_reading()

    def resume_reading(self) -> None:
        if (transport := self._usable()) is not None:
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            buffer, self._rest = self._rest, bytearray()
        try:
            offset = self._frames(buffer)
        except (ProtocolError, msgspec.MsgspecError) as error:
            self.abort(f"it does not speak as agreed: {error}")
            return
        if offset < len(buffer) and self.is_open:
            self._rest += memoryview(buffer)[offset:]

    def _frames(self, buffer: bytes | bytearray) -> int:
        """Every whole frame; where the first one begins that is not."""
        view = memoryview(buffer)
        offset, end = 0, len(buffer)
        while end - offset >= 4 and self.is_open:
            (size,) = _LENGTH.unpack_from(buffer, offset)
            if size > self._read_limit_bytes:
                raise ProtocolError(
                    f"a frame of {size} bytes; at most {self._read_limit_bytes} may come"
                )
            stop = offset + 4 + size
            if stop > end:
                self._needed = 4 + size
                return offset
            frame = view[offset + 4 : stop]
            if not self._is_greeted:
                self.head(frame)
            self.received(messages.decode(frame))
            offset = stop
        self._needed = 4
        return offset

    # ---- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        try:
            check_peer(transport)
        except UnsafeSocket as error:
            log.error("%s", error)
            self._transport.abort()
            return
        self.is_open = True
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over("the connection is lost" if exc is None else f"the connection is lost: {exc}")

    def _over(self, reason: str) -> None:
        if self.is_open:
            self.is_open = False
            self._rest = bytearray()
            self._out = bytearray()
            self.lost(reason)

    def close(self, reason: str) -> None:
        """Over from now on; what was sent still goes out."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
        self._over(reason)

    def abort(self, reason: str) -> None:
        """Over at once, and nothing more is read."""
        if self.is_open:
            log.warning("a connection ends: %s", reason)
        if self._transport is not None:
            self._transport.abort()
        self._over(reason)
