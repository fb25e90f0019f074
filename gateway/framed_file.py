"""A small file that is replaced whole: magic, format version, checksum, then msgpack. Knows no content.

Beside the journal in the data directory, whose owner lock the caller holds when it writes. The formats, and
what of them can never change: docs/registry-format.md.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from perdure.journal.durable import replace_file
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat

_HEAD: Final = struct.Struct(">8sII")  # magic, format version, CRC-32 of the rest

T = TypeVar("T")


class Framing(msgspec.Struct, frozen=True):
    """``magic``: 8 bytes. ``what`` is in the file, and the ``remedy`` where it is damaged; for messages."""

    name: str
    magic: bytes
    version: int
    what: str
    remedy: str


class FramedFile(Generic[T]):
    """One file that holds a ``type_``, which has a default for every field."""

    def __init__(self, directory: str | os.PathLike[str], framing: Framing, type_: type[T]) -> None:
        self.path = Path(directory) / framing.name
        self._framing = framing
        self._type = type_

    def read(self) -> T:
        """Empty where there is no file. Raises StoreDamaged, StoreFormat, StoreError."""
        framing = self._framing
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return self._type()
        except OSError as e:
            raise StoreError(f"{self.path} cannot be read: {e.strerror}") from e
        if len(content) < _HEAD.size or not content.startswith(framing.magic):
            raise self._damaged(f"expected {framing.magic.decode()} at its start")
        _, version, checksum = _HEAD.unpack_from(content)
        if version != framing.version:
            raise StoreFormat(
                f"{self.path} has format {version}, this release reads format {framing.version}; "
                "start the release that wrote it. Nothing was touched."
            )
        body = content[_HEAD.size :]
        if zlib.crc32(body) != checksum:
            raise self._damaged("its checksum does not fit its content")
        try:
            return msgspec.msgpack.decode(body, type=self._type)
        except (msgspec.MsgspecError, ValueError) as e:
            raise self._damaged(str(e)) from e

    def _damaged(self, reason: str) -> StoreDamaged:
        framing = self._framing
        return StoreDamaged(
            f"the {framing.what} {self.path} is damaged: {reason}. Restore it from a backup, or move it "
            f"away and {framing.remedy}; the journal is not touched by either."
        )

    def write(self, content: T) -> None:
        """Replace the file; durable when this returns. Blocks on the disk. Raises StoreError."""
        framing = self._framing
        body = msgspec.msgpack.encode(content)
        framed = _HEAD.pack(framing.magic, framing.version, zlib.crc32(body)) + body
        try:
            replace_file(self.path, framed)
        except OSError as e:
            raise StoreError(
                f"the {framing.what} {self.path} cannot be written: {e.strerror}; nothing changed"
            ) from e
