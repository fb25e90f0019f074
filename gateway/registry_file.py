"""The deployment registry on disk: one small file, replaced whole. Knows no rule about deployments.

The format, and what of it can never change: docs/registry-format.md. No other file reads or writes it.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.schema import ServiceType

NAME: Final = "registry.msgpack"
FORMAT_VERSION: Final = 1
_MAGIC: Final = b"PERDUREG"
_HEAD: Final = struct.Struct(">8sII")  # magic, format version, CRC-32 of the rest


class ServicePatch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `PATCH /services/{name}` may change; None: as discovered. Durations in milliseconds."""

    public: bool | None = None
    idempotency_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    journal_retention_ms: int | None = None
    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None


class ServiceRecord(msgspec.Struct, frozen=True):
    """One service of a deployment. ``manifest``: its JSON in discovery; empty for services in process."""

    name: str
    type: ServiceType
    revision: int = 1
    manifest: bytes = b""
    patch: ServicePatch | None = None


class DeploymentRecord(msgspec.Struct, frozen=True):
    id: str
    uri: str
    bidi: bool = True
    http_version: str = "HTTP/2.0"
    headers: tuple[tuple[str, str], ...] = ()  # additional ones; names in lower case
    metadata: dict[str, str] = {}
    created_at_ms: int = 0
    oldest: int = 5
    newest: int = 5
    sdk_version: str | None = None
    services: tuple[ServiceRecord, ...] = ()


class RegistryRecord(msgspec.Struct, frozen=True):
    deployments: tuple[DeploymentRecord, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RegistryRecord).decode


class RegistryFile:
    """The file in one data directory, whose owner lock the caller holds when it writes."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / NAME

    def read(self) -> RegistryRecord:
        """Empty where there is no file. Raises StoreDamaged, StoreFormat, StoreError."""
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return RegistryRecord()
        except OSError as e:
            raise StoreError(f"{self.path} cannot be read: {e.strerror}") from e
        if len(content) < _HEAD.size or not content.startswith(_MAGIC):
            raise self._damaged(f"expected {_MAGIC.decode()} at its start")
        _, version, checksum = _HEAD.unpack_from(content)
        if version != FORMAT_VERSION:
            raise StoreFormat(
                f"{self.path} has format {version}, this release reads format {FORMAT_VERSION}; "
                "start the release that wrote it. Nothing was touched."
            )
        body = content[_HEAD.size :]
        if zlib.crc32(body) != checksum:
            raise self._damaged("its checksum does not fit its content")
        try:
            return _decode(body)
        except (msgspec.MsgspecError, ValueError) as e:
            raise self._damaged(str(e)) from e

    def _damaged(self, reason: str) -> StoreDamaged:
        return StoreDamaged(
            f"the deployment registry {self.path} is damaged: {reason}. Restore it from a backup, or "
            "move it away and register the deployments again; the journal is not touched by either."
        )

    def write(self, registry: RegistryRecord) -> None:
        """Replace the file; durable when this returns. Blocks on the disk. Raises StoreError."""
        body = _encode(registry)
        content = _HEAD.pack(_MAGIC, FORMAT_VERSION, zlib.crc32(body)) + body
        temporary = self.path.with_name(NAME + ".tmp")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            temporary.rename(self.path)
            self._sync_directory()
        except OSError as e:
            raise StoreError(
                f"the deployment registry {self.path} cannot be written: {e.strerror}; nothing changed"
            ) from e

    def _sync_directory(self) -> None:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
