"""Random bytes from the system, fetched in bulk: one system call for many small draws.

Chance comes into the machines through events; this is where production draws it. Tests draw from a
seeded ``Random`` instead.
"""

import os

_BULK_BYTES = 4096


class SystemChance:
    """The signature of ``os.urandom``. For one thread; bytes are handed out once."""

    __slots__ = ("_bytes", "_position")

    def __init__(self) -> None:
        self._bytes = b""
        self._position = 0

    def __call__(self, size: int) -> bytes:
        start, end = self._position, self._position + size
        if end > len(self._bytes):
            if size > _BULK_BYTES:
                return os.urandom(size)
            self._bytes, start, end = os.urandom(_BULK_BYTES), 0, size
        self._position = end
        return self._bytes[start:end]
