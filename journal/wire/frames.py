"""Frames: an 8-byte header (type, flags, length; big-endian) and a payload. Nothing here looks inside.

How HTTP cut the stream means nothing: a frame may come in pieces, many may come at once.
Rules: service protocol 3.1, 3.2, 3.4 to 3.6.
"""

from enum import IntEnum
from struct import Struct

import msgspec

from perdure.journal.errors import ProtocolError

REQUESTED_ACK = 0x8000  # a flag

FIRST_COMMAND, LAST_COMMAND = 0x0400, 0x7FFF
FIRST_NOTIFICATION, LAST_NOTIFICATION = 0x8000, 0xFBFF

_HEADER = Struct(">HHI")
_HEADER_BYTES = _HEADER.size


class FrameType(IntEnum):
    START = 0x0000
    SUSPENSION = 0x0001
    ERROR = 0x0002
    END = 0x0003
    COMMAND_ACK = 0x0004  # never sent: no SDK of today knows it
    PROPOSE_RUN_COMPLETION = 0x0005
    AWAITING_ON = 0x0006
    PROPOSE_RUN_COMPLETION_ACK = 0x0007

    INPUT = 0x0400
    OUTPUT = 0x0401
    GET_LAZY_STATE = 0x0402
    SET_STATE = 0x0403
    CLEAR_STATE = 0x0404
    CLEAR_ALL_STATE = 0x0405
    GET_LAZY_STATE_KEYS = 0x0406
    GET_EAGER_STATE = 0x0407
    GET_EAGER_STATE_KEYS = 0x0408
    GET_PROMISE = 0x0409
    PEEK_PROMISE = 0x040A
    COMPLETE_PROMISE = 0x040B
    SLEEP = 0x040C
    CALL = 0x040D
    ONE_WAY_CALL = 0x040E
    SEND_SIGNAL = 0x0410
    RUN = 0x0411
    ATTACH_INVOCATION = 0x0412
    GET_INVOCATION_OUTPUT = 0x0413
    COMPLETE_AWAKEABLE = 0x0414

    GET_LAZY_STATE_COMPLETION = 0x8002
    GET_LAZY_STATE_KEYS_COMPLETION = 0x8006
    GET_PROMISE_COMPLETION = 0x8009
    PEEK_PROMISE_COMPLETION = 0x800A
    COMPLETE_PROMISE_COMPLETION = 0x800B
    SLEEP_COMPLETION = 0x800C
    CALL_COMPLETION = 0x800D
    CALL_INVOCATION_ID_COMPLETION = 0x800E
    RUN_COMPLETION = 0x8011
    ATTACH_INVOCATION_COMPLETION = 0x8012
    GET_INVOCATION_OUTPUT_COMPLETION = 0x8013
    SIGNAL = 0xFBFF


_NAMES = {int(each): each.name.lower() for each in FrameType}


def frame_name(type: int) -> str:
    """For messages to people: ``set_state (0x0403)``, or ``0x7777`` for what no version knows."""
    name = _NAMES.get(type)
    return f"0x{type:04x}" if name is None else f"{name} (0x{type:04x})"


class RawFrame(msgspec.Struct, frozen=True, gc=False):
    type: int
    flags: int
    payload: bytes


def frame(type: int, payload: bytes, flags: int = 0) -> bytes:
    """The frame as it goes out. ``type``, ``flags``: 16 bits; ``payload`` below 4 GiB."""
    return _HEADER.pack(type, flags, len(payload)) + payload


class FrameTooLarge(ProtocolError):
    """A header announced more than the limit; ``frames`` came before it in the same data."""

    def __init__(self, message: str, frames: list[RawFrame]) -> None:
        super().__init__(message)
        self.frames = frames


class FrameReader:
    """Cuts one stream of bytes into frames. After it raised, the stream is over."""

    __slots__ = ("_header", "_limit_bytes", "_missing_bytes", "_pieces", "_rest")

    def __init__(self, limit_bytes: int) -> None:
        """``limit_bytes``: the longest payload that is accepted."""
        self._limit_bytes = limit_bytes
        self._rest = b""  # a header that is not complete yet
        self._header: tuple[int, int] | None = None  # type and flags of the frame in progress
        self._pieces: list[bytes] = []  # its payload so far
        self._missing_bytes = 0  # what its payload still lacks

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here."""
        return self._header is None and not self._rest

    def feed(self, data: bytes) -> list[RawFrame]:
        """The frames that ``data`` completes, in order.

        Raises FrameTooLarge (RT0003) on a header that announces more than the limit, before its payload
        came; all that follows is lost.
        """
        frames: list[RawFrame] = []
        at = 0
        if self._header is not None:
            at = self._continue(data, frames)
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        end = len(data)
        while end - at >= _HEADER_BYTES:
            type, flags, length = _HEADER.unpack_from(data, at)
            if length > self._limit_bytes:
                self._rest = data[at : at + _HEADER_BYTES]  # whatever comes next fails alike
                raise FrameTooLarge(
                    f"[RT0003] {frame_name(type)}: a frame of {length} bytes is over the limit of"
                    f" {self._limit_bytes} bytes",
                    frames,
                )
            at += _HEADER_BYTES
            if length > end - at:
                self._header = (type, flags)
                self._pieces.append(data[at:])
                self._missing_bytes = length - (end - at)
                return frames
            frames.append(RawFrame(type, flags, data[at : at + length]))
            at += length
        if at < end:
            self._rest = data[at:]
        return frames

    def _continue(self, data: bytes, frames: list[RawFrame]) -> int:
        """Give the frame in progress what it lacks; how many bytes of ``data`` that took."""
        taken = self._missing_bytes
        if len(data) < taken:
            self._pieces.append(data)
            self._missing_bytes -= len(data)
            return len(data)
        assert self._header is not None
        self._pieces.append(data[:taken])
        frames.append(RawFrame(*self._header, b"".join(self._pieces)))
        self._pieces = []
        self._header = None
        return taken
