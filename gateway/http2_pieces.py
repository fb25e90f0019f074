"""What comes over an HTTP/2 connection, cut at the ends of frames into pieces for h2.

Small ones, since h2 counts all open streams at the head of each new one, and since others want their
turn. A goodbye (GOAWAY) is taken out: h2 takes it for the end of both sides, and drops answers that
wait to be sent. Rule: RFC 9113, 4.1, 6.8.
"""

from typing import Final

import msgspec

_PREFACE_BYTES: Final = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_PIECE_BYTES: Final = 4096  # a longer frame is a piece of its own
_HEAD_BYTES: Final = 9
_LONGEST_FRAME_BYTES: Final = 16_384  # as long as the client is not told otherwise
_GOAWAY: Final = 7
_GOODBYE_BYTES: Final = 8  # the last stream and the reason; more is for the eyes of people


class Goodbye(msgspec.Struct, frozen=True):
    """The client begins nothing more. 0: no error."""

    error_code: int


class Pieces:
    """Bytes in, pieces out. True while there are bytes, though not always a whole frame."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._has_begun = False  # the preface is out

    def __bool__(self) -> bool:
        return bool(self._raw)

    def add(self, data: bytes) -> None:
        self._raw += data

    def take(self) -> bytes | Goodbye | None:
        """The next piece; None while no frame is whole. What can't be a frame is for h2 to refuse."""
        size = 0
        if not self._has_begun:
            if len(self._raw) < _PREFACE_BYTES:
                return None
            self._has_begun, size = True, _PREFACE_BYTES
        while (end := self._end_of_frame(size)) is not None:
            if self._raw[size + 3] == _GOAWAY and end - size >= _HEAD_BYTES + _GOODBYE_BYTES:
                return self._cut(size) if size else self._goodbye(end)
            if size and end > _PIECE_BYTES:
                break
            size = end
        return self._cut(size) if size else None

    def _end_of_frame(self, start: int) -> int | None:
        raw = self._raw
        if len(raw) < start + _HEAD_BYTES:
            return None
        length = int.from_bytes(raw[start : start + 3], "big")
        if length > _LONGEST_FRAME_BYTES:
            return len(raw)
        end = start + _HEAD_BYTES + length
        return end if end <= len(raw) else None

    def _goodbye(self, end: int) -> Goodbye:
        frame = self._cut(end)
        return Goodbye(int.from_bytes(frame[_HEAD_BYTES + 4 : _HEAD_BYTES + 8], "big"))

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._raw[:size])
        del self._raw[:size]
        return piece
