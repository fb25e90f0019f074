"""The versions of the code that one process has loaded, ready for attempts and for the registry.

Which of them there are, and when one goes, is decided elsewhere: gateway/versions.py. Sources come from the
copies in the data directory, which this file does not write. docs/code-versions.md.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable

from perdure.actors.registry import Registry
from perdure.definition import Definition
from perdure.describe import describe
from perdure.embedded import flatten
from perdure.entry_codec import JournalValueCodec
from perdure.gateway import registrations
from perdure.gateway.deployment_requests import Version
from perdure.gateway.deployment_uri import is_version, version_hash, version_uri
from perdure.gateway.deployments import Registrar
from perdure.gateway.registry_file import DeploymentRecord
from perdure.gateway.settings import Settings, SettingsError
from perdure.gateway.targets import Loaded
from perdure.gateway.version_code import VersionCode, project_of
from perdure.gateway.version_store import VersionStore
from perdure.hosting import Hosted
from perdure.journal.schedules_records import Spec
from perdure.journal.schedules_requests import Declare
from perdure.schedules import declared

log = logging.getLogger("perdure.versions")


class VersionHost:
    """All of one process. Used on the loop, but for ``load``. ``stays``: a version that is never let go."""

    def __init__(self, settings: Settings, targets: list[str], stays: str = "") -> None:
        """Raises SettingsError where the targets are not one project."""
        self._settings = settings
        self.project, self._targets = project_of(targets)
        self.store = VersionStore(settings.data)
        self._stays = stays
        self._codes: dict[str, VersionCode] = {}  # by hash: what is loaded
        self._loaded: dict[str, Loaded] = {}
        self._hosted: dict[str, Hosted] = {}
        self._loading = asyncio.Lock()
        self.on_enter: Callable[[str], None] | None = None  # told the trace of each attempt

    def load(self, hash: str) -> Loaded:
        """Blocking, and one at a time. Raises SettingsError."""
        if hash not in self._loaded:
            code = VersionCode(hash, self.store.folder(hash))
            self._loaded[hash] = code.load(self._targets)
            self._codes[hash] = code
        return self._loaded[hash]

    async def version(self, hash: str) -> Version:
        """Load it where it is not yet, in a thread. Raises SettingsError."""
        async with self._loading:
            if hash not in self._loaded:
                await asyncio.to_thread(self.load, hash)
            definitions, source = flatten(self._loaded[hash].services)
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
            return Version(hash, services, self._hosted[hash])

    async def deploy_known(self, registrar: Registrar, newest: str) -> None:
        """Deploy every version of the registry, before the engine recovers; ``newest`` takes what is new.

        ``newest`` "": whichever did so far. Raises SettingsError where that can't be loaded.
        """
        for record in registrar.records():
            if is_version(record.uri) and version_hash(record.uri) != newest:
                version = await self.known(registrar.records(), record, must=not newest)
                if version is not None:
                    await registrar.host_version(version, renew=False)
        if newest:
            is_new = not registrations.is_newest(tuple(registrar.records()), version_uri(newest))
            await registrar.host_version(await self.version(newest), renew=is_new)

    async def known(
        self, records: Iterable[DeploymentRecord], record: DeploymentRecord, *, must: bool
    ) -> Version | None:
        """A version of the registry; None, and told, where it can't be loaded any more.

        ``must``: raise SettingsError then, if it is the one that takes what is new.
        """
        try:
            return await self.version(version_hash(record.uri))
        except SettingsError as e:
            if must and registrations.is_newest(tuple(records), record.uri):
                raise
            hash = version_hash(record.uri)
            log.error(
                "version %s can't be loaded, and what is pinned to it waits (RT0011): %s", hash, e
            )
            return None

    def running(self) -> set[str]:
        """Those at which an attempt runs."""
        return {hash for hash, hosted in self._hosted.items() if hosted.running_count}

    def schedules(self, hash: str) -> Declare:
        """What a loaded version declares."""
        return self._declared(hash, flatten(self._loaded[hash].services)[0])

    def schedules_at(self, registry: Registry, records: Iterable[DeploymentRecord]) -> Declare:
        """What is declared by the code that takes what is new, of each service the newest."""
        services: list[str] = []
        specs: list[Spec] = []
        for record in records:
            hash = version_hash(record.uri)
            if not is_version(record.uri) or hash not in self._hosted:
                continue
            definitions, _ = flatten(self._loaded[hash].services)
            newest = [each for each in definitions if registry.home(each.name) == record.id]
            part = self._declared(hash, newest)
            services += part.services
            specs += part.specs
        return Declare(tuple(services), tuple(specs))

    def _declared(self, hash: str, definitions: list[Definition]) -> Declare:
        return declared(definitions, self._hosted[hash].codec)

    async def keep(self, hashes: set[str]) -> None:
        """Let all others go."""
        async with self._loading:
            for hash in self._loaded.keys() - hashes:
                self.forget(hash)

    def forget(self, hash: str) -> None:
        """Let one go, at which nothing runs."""
        if hash in self._hosted:
            self._hosted.pop(hash).close()
        if hash != self._stays:
            self._loaded.pop(hash, None)
            if hash in self._codes:
                self._codes.pop(hash).unload()

    def close(self) -> None:
        """After the engine has stopped."""
        for hash in list(self._loaded):
            self.forget(hash)
