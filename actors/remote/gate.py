"""Finds run commands in what an app sends, without reading anything else of it. Pure.

An SDK starts a run's closure when its command has been sent. So that it starts only when everything before
it is durable, sending the command must take until then.
"""

import struct

from perdure.journal.wire.frames import FrameType

_HEADER = struct.Struct(">HHI")


class RunWatch:
    """Walks over the frames of one stream, cut anywhere."""

    __slots__ = ("_head", "_in_run", "_left")

    def __init__(self) -> None:
        self._head = b""  # an incomplete header
        self._left = 0  # of the current frame's payload
        self._in_run = False

    def has_run(self, data: bytes) -> bool:
        """Whether some of ``data`` belongs to a run command."""
        if self._head:
            data, self._head = self._head + data, b""
        found, at, size = False, 0, len(data)
        while at < size:
            if not self._left:
                if size - at < _HEADER.size:
                    self._head = data[at:]
                    return found
                type, _, self._left = _HEADER.unpack_from(data, at)
                self._in_run = type == FrameType.RUN
                at += _HEADER.size
                found = found or self._in_run
            taken = min(self._left, size - at)
            found = found or (self._in_run and taken > 0)
            self._left -= taken
            at += taken
        return found
