"""One deployment registry in many processes: the first gateway changes it, all others follow its file.

A change is written, carried out here, told to all others, and answered when all have carried it out.
Rules and format are in gateway/deployments.py and gateway/registry_file.py.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from perdure.actors.plane.cluster import Cluster
from perdure.actors.registry import Registry
from perdure.actors.remote.deployments import Deployments, DeploymentSpec, RemoteOptions
from perdure.actors.remote.port import Transport
from perdure.gateway import registrations
from perdure.gateway.deployment_uri import IN_PROCESS, is_local, is_version, version_hash
from perdure.gateway.deployments import Registrar
from perdure.gateway.registrations import Records
from perdure.gateway.registry_file import DeploymentRecord
from perdure.gateway.version_host import VersionHost
from perdure.hosting import Hosted
from perdure.journal.schema import Service

SEED_BYTES: Final = 16


class SameStart:
    """Randomness and time that are the same in all processes, until ``over``.

    What a start finds for the first time gets the same deployment id in each of them, although only one
    writes it.
    """

    def __init__(self, seed: bytes, now_ms: int, clock: Callable[[], int]) -> None:
        self._seed, self._moment, self._clock = seed, now_ms, clock
        self._drawn: int | None = 0

    def now_ms(self) -> int:
        return self._clock() if self._drawn is None else self._moment

    def random_bytes(self, count: int) -> bytes:
        if self._drawn is None:
            return os.urandom(count)
        self._drawn += 1
        number = self._drawn.to_bytes(8, "big")
        return hashlib.blake2b(number, key=self._seed, digest_size=count).digest()

    def over(self) -> None:
        self._drawn = None


class Leader(Registrar):
    """In the first gateway, the one that writes. ``tell_all`` returns when all others follow."""

    tell_all: Callable[[], Awaitable[None]]
    _telling: asyncio.Task[None] | None = None

    async def _commit(self, records: Records, carry_out: Callable[[], None]) -> None:
        """Cancelling the caller cancels none of it, telling included."""

        def carry_out_and_tell() -> None:
            carry_out()
            self._telling = asyncio.ensure_future(self._tell())

        await super()._commit(records, carry_out_and_tell)
        assert self._telling is not None
        await asyncio.shield(self._telling)

    async def settle(self) -> None:
        """As ever; and tell what somebody before us wrote, and may not have told."""
        await super().settle()
        if self._telling is None:
            await self._tell()

    async def _tell(self) -> None:
        await self.tell_all()

    def fingerprint(self) -> bytes:
        """Of the registry as it is now: see ``Follower.follows``."""
        return _fingerprint(self._records)


class Follower(Registrar):
    """In every other process. ``versions``: of the code, where they are kept."""

    versions: VersionHost | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._found: set[str] = set()  # by this start, and not yet seen in the file

    def _note(self, record: DeploymentRecord) -> None:
        if registrations.find(self._records, record.id) is None:
            self._found.add(record.id)
        super()._note(record)

    async def reload(self) -> None:
        """Read the file again and carry out what has changed.

        Raises StoreError, and SettingsError where the code that takes what is new can't be loaded.
        """
        async with self._alone():
            records = (await asyncio.to_thread(self._file.read)).deployments
            self._found -= {each.id for each in records}
            for old in self._records:
                if registrations.find(records, old.id) is not None:
                    continue
                if old.id in self._found:
                    records = registrations.with_record(records, old)
                    continue
                self._transports.pop(old.id, None)  # the engine closes it
                self._versions.pop(old.id, None)
                self._engine.undeploy(old.id)
            await self._load_versions(records)
            for record in records:
                before = registrations.find(self._records, record.id)
                if record != before and self._is_ours(record):
                    if before is not None and _address(before) != _address(record):
                        self._transports.pop(record.id, None)  # made anew
                    self._deploy(record)
            self._records = records
        if self.versions is not None:
            await self.versions.keep({version_hash(e.uri) for e in records if is_version(e.uri)})

    async def _load_versions(self, records: Records) -> None:
        for record in records:
            if self.versions is None or not is_version(record.uri) or record.id in self._versions:
                continue
            version = await self.versions.known(records, record, must=True)
            if version is not None:
                self._versions[record.id] = version

    def follows(self, registry: bytes) -> bool:
        """Whether it has carried out exactly the registry with this fingerprint."""
        return _fingerprint(self._records) == registry

    def _is_ours(self, record: DeploymentRecord) -> bool:
        """Whether it can run here: it is elsewhere, or this process has loaded it."""
        loaded = record.id in self._transports or record.id in self._versions
        return loaded or record.uri == IN_PROCESS or not is_local(record.uri)


def _fingerprint(records: Records) -> bytes:
    """The same in all processes that have the same registry."""
    return hashlib.blake2b(msgspec.json.encode(records), digest_size=16).digest()


def _address(record: DeploymentRecord) -> tuple[str, str]:
    return record.uri, record.http_version


class ClusterDeployments:
    """What a registrar needs of an engine, in a gateway: the services are known, and run elsewhere."""

    def __init__(self, cluster: Cluster, registry: Registry, options: RemoteOptions) -> None:
        self._cluster = cluster
        self.registry = registry
        self.deployments = Deployments(Hosted([]), registry, options)

    def deploy(self, spec: DeploymentSpec, transport: Transport) -> None:
        self.deployments.put(spec, transport)

    def undeploy(self, deployment_id: str) -> None:
        self.deployments.remove(deployment_id)

    def services(self) -> dict[str, Service]:
        return self.registry.services

    async def pinned_counts(self) -> dict[str, int]:
        return await self._cluster.pinned_counts()
