"""Versions of the served code, side by side: `perdure up --versions` and `perdure deploy`.

Each version is a deployment of its own in this process, or in all processes of a tree
(gateway/versions_everywhere.py). What began with one is pinned to it; what is new
goes to the newest. Copies of the sources are in `DATA/code` (gateway/version_store.py), so that a restart
loads every version that still has something to finish. docs/code-versions.md.
"""

import asyncio
import logging
from typing import Final

import msgspec

from perdure.actors.engine import Engine
from perdure.gateway import registrations
from perdure.gateway.deployment_uri import is_version, version_hash, version_uri
from perdure.gateway.deployments import Registrar
from perdure.gateway.targets import Loaded
from perdure.gateway.version_host import VersionHost
from perdure.journal.errors import PerdureError

log = logging.getLogger("perdure.versions")

_DRAINED: Final = "drained"


class OtherCode(PerdureError):
    """The sources that the server sees are not those that somebody checked."""


class Deployed(msgspec.Struct, frozen=True):
    """A version that takes what is new. ``code``: the hash of its sources. ``is_new``: it did not before."""

    deployment_id: str
    code: str
    is_new: bool


class NotEverywhere(PerdureError):
    """Not every partition can take the new code now."""


class Versions:
    """All versions of one `perdure up`. Used on the engine's loop, but for ``load``."""

    def __init__(self, host: VersionHost) -> None:
        self.host = host
        self._newest = ""
        self._lock = asyncio.Lock()
        self._engine: Engine
        self._registrar: Registrar

    def load(self) -> Loaded:
        """The code as it is now, which every invocation without a version has, too.

        Raises SettingsError, StoreError.
        """
        self._newest = self.host.store.take(self.host.project)
        return self.host.load(self._newest)

    async def start(self, engine: Engine, registrar: Registrar) -> None:
        """Deploy every version that is known, before the engine recovers; the present one is the newest."""
        self._engine, self._registrar = engine, registrar
        await self.host.deploy_known(registrar, self._newest)

    async def settle(self) -> None:
        """Forget versions that have nothing to finish. After the start, and after each deployment."""
        async with self._lock:
            await self._retire()

    async def deploy(self, expected: str | None = None) -> Deployed:
        """Take the project's code as it is now; what is new goes there from then on.

        ``expected``: the hash of what was checked. Raises OtherCode where it is another one, SettingsError
        where it can't be loaded, NotEverywhere, StoreError. Whatever is raised, the version before goes on.
        """
        async with self._lock:
            store, project = self.host.store, self.host.project
            hash = await asyncio.to_thread(store.take, project)
            if expected is not None and hash != expected:
                raise OtherCode(
                    f"the server's project {project} has the code {hash}, not {expected}, which was "
                    "checked; deploy from the folder that the server was started with"
                )
            is_new = hash != self._newest or not self._is_newest(hash)
            version = await self.host.version(hash)
            await self._prepare(hash)
            id = (await self._registrar.host_version(version, renew=is_new)).id
            self._newest = hash
            if is_new:
                await self._declare(hash)
                log.info("version %s takes what is new, as deployment %s", hash, id)
            await self._retire()
        return Deployed(id, hash, is_new)

    def _is_newest(self, hash: str) -> bool:
        return registrations.is_newest(tuple(self._registrar.records()), version_uri(hash))

    async def _retire(self) -> None:
        # First: whatever begins after a deployment begins elsewhere, so a version at which nothing runs
        # now, and to which nothing is pinned then, is over.
        running = await self._running()
        statuses = await self._registrar.statuses()
        kept = {self._newest}
        for record in self._registrar.records():
            if not is_version(record.uri):
                continue
            hash = version_hash(record.uri)
            busy = hash in running or statuses.get(record.id) != _DRAINED
            if busy or hash == self._newest:
                kept.add(hash)
                continue
            await self._registrar.retire_version(hash)
            self.host.forget(hash)
            log.info("version %s has nothing left to finish, and is forgotten", hash)
        await self._sweep(kept)

    async def _sweep(self, kept: set[str]) -> None:
        await asyncio.to_thread(self.host.store.sweep, kept)

    # ---- what is another matter in many processes

    async def _prepare(self, hash: str) -> None:
        """Before a version is let in. Raises SettingsError, NotEverywhere."""

    async def _declare(self, hash: str) -> None:
        """What the newest code says of schedules."""
        await self._engine.schedules.declare(self.host.schedules(hash))

    async def _running(self) -> set[str]:
        """Versions at which an attempt runs."""
        return self.host.running()
