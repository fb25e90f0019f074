"""Versions of the served code, side by side: `perdure up --versions` and `perdure deploy`.

Each version is a deployment of its own in this process. What began with one is pinned to it; what is new
goes to the newest. Copies of the sources are in `DATA/code` (gateway/version_store.py), so that a restart
loads every version that still has something to finish. docs/code-versions.md.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.actors.engine import Engine
from perdure.describe import describe
from perdure.embedded import flatten
from perdure.entry_codec import JournalValueCodec
from perdure.gateway.deployment_requests import Version
from perdure.gateway.deployment_uri import is_version, version_hash, version_uri
from perdure.gateway.deployments import Registrar
from perdure.gateway.registrations import at_uri, newest
from perdure.gateway.settings import Settings, SettingsError
from perdure.gateway.targets import Loaded
from perdure.gateway.version_code import VersionCode, project_of
from perdure.gateway.version_store import VersionStore
from perdure.hosting import Hosted
from perdure.journal.errors import PerdureError
from perdure.schedules import declared

log = logging.getLogger("perdure.versions")

_DRAINED: Final = "drained"


class OtherCode(PerdureError):
    """The sources that the server sees are not those that somebody checked."""


class Deployed(msgspec.Struct, frozen=True):
    """A version that takes what is new. ``code``: the hash of its sources. ``is_new``: it did not before."""

    deployment_id: str
    code: str
    is_new: bool


class Versions:
    """All versions of one `perdure up`. Used on the engine's loop, but for ``load``."""

    def __init__(self, settings: Settings, targets: list[str]) -> None:
        """Raises SettingsError where the targets are not one project."""
        self._settings = settings
        self._project, self._targets = project_of(targets)
        self._store = VersionStore(settings.data)
        self._codes: dict[str, VersionCode] = {}  # by hash: what is loaded
        self._loaded: dict[str, Loaded] = {}
        self._hosted: dict[str, Hosted] = {}
        self._newest = ""
        self._lock = asyncio.Lock()
        self._engine: Engine
        self._registrar: Registrar
        self.on_enter: Callable[[str], None] | None = None  # told the trace of each attempt

    def load(self) -> Loaded:
        """The code as it is now, which every invocation without a version has, too.

        Raises SettingsError, StoreError.
        """
        self._newest = self._store.take(self._project)
        return self._load(self._newest)

    def _load(self, hash: str) -> Loaded:
        if hash not in self._loaded:
            code = VersionCode(hash, self._store.folder(hash))
            self._loaded[hash] = code.load(self._targets)
            self._codes[hash] = code
        return self._loaded[hash]

    async def start(self, engine: Engine, registrar: Registrar) -> None:
        """Deploy every version that is known, before the engine recovers; the present one is the newest."""
        self._engine, self._registrar = engine, registrar
        for record in registrar.records():
            hash = version_hash(record.uri)
            if not is_version(record.uri) or hash == self._newest:
                continue
            try:
                await self._host(hash, renew=False)
            except SettingsError as e:
                log.error(
                    "version %s can't be loaded, and what is pinned to it waits (RT0011): %s",
                    hash,
                    e,
                )
        await self._host(self._newest, renew=not self._is_newest(self._newest))

    async def settle(self) -> None:
        """Forget versions that have nothing to finish. After the start, and after each deployment."""
        async with self._lock:
            await self._retire()

    def _is_newest(self, hash: str) -> bool:
        """Whether a version has the highest revision of all that it serves."""
        records = tuple(self._registrar.records())
        known = at_uri(records, version_uri(hash))
        return bool(known) and all(
            newest(records, each.name) is each for record in known for each in record.services
        )

    async def _host(self, hash: str, *, renew: bool) -> str:
        definitions, source = flatten(self._load(hash).services)
        if hash not in self._hosted:
            codec = source
            if codec is not None and not isinstance(codec, JournalValueCodec):
                made = codec()
                codec = await made if inspect.isawaitable(made) else made
            threads = self._settings.handlers.threads
            self._hosted[hash] = Hosted(definitions, threads=threads, codec=codec)
            self._hosted[hash].on_enter = self.on_enter
        defaults = self._settings.defaults()
        services = {each.name: describe(each, defaults) for each in definitions}
        version = Version(hash, services, self._hosted[hash])
        return (await self._registrar.host_version(version, renew=renew)).id

    async def deploy(self, expected: str | None = None) -> Deployed:
        """Take the project's code as it is now; what is new goes there from then on.

        ``expected``: the hash of what was checked. Raises OtherCode where it is another one, SettingsError
        where it can't be loaded, StoreError. Whatever is raised, the version before goes on.
        """
        async with self._lock:
            hash = await asyncio.to_thread(self._store.take, self._project)
            if expected is not None and hash != expected:
                raise OtherCode(
                    f"the server's project {self._project} has the code {hash}, not {expected}, which was "
                    "checked; deploy from the folder that the server was started with"
                )
            is_new = hash != self._newest or not self._is_newest(hash)
            await asyncio.to_thread(self._load, hash)
            id = await self._host(hash, renew=is_new)
            self._newest = hash
            if is_new:
                definitions, _ = flatten(self._loaded[hash].services)
                wanted = declared(definitions, self._hosted[hash].codec)
                await self._engine.schedules.declare(wanted)
                log.info("version %s takes what is new, as deployment %s", hash, id)
            await self._retire()
        return Deployed(id, hash, is_new)

    async def _retire(self) -> None:
        # First: whatever begins after a deployment begins elsewhere, so a version at which nothing runs
        # now, and to which nothing is pinned then, is over.
        idle = {hash for hash, hosted in self._hosted.items() if not hosted.running_count}
        statuses = await self._registrar.statuses()
        kept = {self._newest}
        for record in self._registrar.records():
            if not is_version(record.uri):
                continue
            hash = version_hash(record.uri)
            busy = hash in self._hosted and hash not in idle
            if busy or statuses.get(record.id) != _DRAINED or hash == self._newest:
                kept.add(hash)
                continue
            await self._registrar.retire_version(hash)
            self._forget(hash)
            log.info("version %s has nothing left to finish, and is forgotten", hash)
        await asyncio.to_thread(self._store.sweep, kept)

    def _forget(self, hash: str) -> None:
        self._loaded.pop(hash, None)
        if hash in self._hosted:
            self._hosted.pop(hash).close()
        if hash in self._codes:
            self._codes.pop(hash).unload()

    def close(self) -> None:
        """After the engine has stopped."""
        for hash in list(self._loaded):
            self._forget(hash)
