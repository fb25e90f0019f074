"""The deployment registry on disk: one small file, replaced whole. Knows no rule about deployments.

The format, and what of it can never change: docs/registry-format.md. No other file reads or writes it.
"""

import os
from typing import Final

import msgspec

from perdure.gateway.framed_file import FramedFile, Framing
from perdure.journal.schema import ServiceType

_FRAMING: Final = Framing(
    name="registry.msgpack",
    magic=b"PERDUREG",
    version=1,
    what="deployment registry",
    remedy="register the deployments again",
)


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


class RegistryFile(FramedFile[RegistryRecord]):
    """The file in one data directory, whose owner lock the caller holds when it writes."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__(directory, _FRAMING, RegistryRecord)
