"""The deployment registry at work: registers, updates and removes deployments, and tells the engine.

Each change is written to the registry's file, then carried out, then answered; one at a time. The rules are
in gateway/registrations.py, the file in gateway/registry_file.py. Rules: admin 4 and 5.3.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from perdure.actors.remote.deployments import DeploymentSpec
from perdure.actors.remote.port import Headers, Transport
from perdure.gateway import registrations
from perdure.gateway.admin_models import Infos
from perdure.gateway.deployment_errors import DeploymentRefused, coded
from perdure.gateway.deployment_requests import (
    Connect,
    Engine,
    Outcome,
    Registration,
    Update,
    Version,
)
from perdure.gateway.deployment_uri import (
    IN_PROCESS,
    Address,
    hosted_uri,
    is_local,
    is_version,
    read_address,
    version_uri,
)
from perdure.gateway.discovery import HTTP1, HTTP2, Discovered, Discovery
from perdure.gateway.patches import patched
from perdure.gateway.registrations import Records
from perdure.gateway.registry_file import (
    DeploymentRecord,
    RegistryFile,
    RegistryRecord,
    ServicePatch,
)
from perdure.journal.effective import effective
from perdure.journal.errors import PerdureError
from perdure.journal.ids import format_deployment_id
from perdure.journal.requests import At
from perdure.journal.schema import Defaults, Service, ServiceType

log = logging.getLogger("perdure.deployments")

_ULID_RANDOM_BYTES: Final = 10


class Registrar:
    """One for a data directory. Used on the engine's loop; ``headers`` go with every request to any."""

    def __init__(
        self,
        file: RegistryFile,
        discovery: Discovery,
        connect: Connect,
        *,
        defaults: Defaults,
        headers: Headers = (),
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._file = file
        self._discovery = discovery
        self._connect = connect
        self._defaults = defaults
        self._headers = headers
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._records: Records = ()
        self._in_process: dict[str, Service] = {}
        self._transports: dict[str, Transport] = {}
        self._versions: dict[str, Version] = {}  # of the code, by deployment
        self._lock = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._is_settled = False  # whether the data directory is ours to write
        self._unwritten = False  # what the start found out and ``settle`` writes
        self._engine: Engine

    # ---- the start -------------------------------------------------------------------------------

    def start(self, engine: Engine, in_process: Mapping[str, Service]) -> None:
        """Read the file and deploy all of it, before the engine recovers. Raises StoreError.

        ``in_process``: services of this SDK in this process. Call ``settle`` when the engine runs.
        """
        self._engine = engine
        self._in_process = dict(
            in_process
        )  # now: it may be the engine's own, which is about to grow
        self._records = self._file.read().deployments
        for record in self._records:
            if not is_local(record.uri):
                self._deploy(record)
        own = self._in_process_record()
        if own is not None:
            self._note(own)
            self._deploy(own)

    def _in_process_record(self) -> DeploymentRecord | None:
        old = next(iter(registrations.at_uri(self._records, IN_PROCESS)), None)
        if old is None and not self._in_process:
            return None
        described = [(each, b"") for each in self._in_process.values()]
        services = registrations.in_place(self._records, old, described, keep_patches=True)
        if old is not None:
            return msgspec.structs.replace(old, services=services)
        return registrations.in_process(self._new_id(), IN_PROCESS, self._now_ms(), services)

    async def host(self, name: str, transport: Transport) -> DeploymentRecord:
        """Deploy an app of this process, discovered anew. Its id stays from start to start.

        Raises DeploymentRefused where it can't be discovered; the transport is then still the caller's.
        """
        uri = hosted_uri(name)
        found = await self._discovery.discover(transport, Address(uri, ""))
        async with self._alone():
            old = next(iter(registrations.at_uri(self._records, uri)), None)
            services = registrations.in_place(
                self._records, old, found.manifest.services, keep_patches=True
            )
            record = registrations.discovered(
                old.id if old else self._new_id(), uri, HTTP2, found, services, self._now_ms()
            )
            if old is not None:
                record = msgspec.structs.replace(record, created_at_ms=old.created_at_ms)
            self._note(record)
            self._transports[record.id] = transport
            self._deploy(record)
        return record

    async def host_version(self, version: Version, *, renew: bool) -> DeploymentRecord:
        """Deploy a version of this process's code. Its id stays; ``renew``: it becomes the newest.

        Written at once where the engine runs, else by ``settle``. Raises StoreError.
        """
        uri = version_uri(version.hash)
        async with self._alone():
            old = next(iter(registrations.at_uri(self._records, uri)), None)
            described = [(each, b"") for each in version.services.values()]
            if old is not None and not renew:
                services = registrations.in_place(self._records, old, described, keep_patches=True)
            else:
                services = registrations.revised(self._records, described, breaking=True)
            record = registrations.in_process(
                old.id if old else self._new_id(),
                uri,
                old.created_at_ms if old else self._now_ms(),
                services,
            )
            self._versions[record.id] = version
            if self._is_settled:
                await self._commit(
                    registrations.with_record(self._records, record), lambda: self._deploy(record)
                )
            else:
                self._note(record)
                self._deploy(record)
        return record

    async def retire_version(self, hash: str) -> None:
        """Forget a version that nobody needs any more. Raises StoreError."""
        async with self._alone():
            for record in registrations.at_uri(self._records, version_uri(hash)):
                self._engine.undeploy(
                    record.id
                )  # first: nothing may begin there while it is written
                self._versions.pop(record.id, None)
                left = registrations.without(self._records, record.id)
                await self._commit(left, lambda: None)

    def _note(self, record: DeploymentRecord) -> None:
        """Keep what a start found, to be written when the data directory is ours."""
        if registrations.find(self._records, record.id) != record:
            self._records = registrations.with_record(self._records, record)
            self._unwritten = True

    async def settle(self) -> None:
        """Write what the start found out. After the engine has the data directory. Raises StoreError."""
        async with self._alone():
            if self._unwritten:
                await self._commit(self._records, lambda: None)
            self._is_settled = True

    # ---- changes ---------------------------------------------------------------------------------

    async def register(self, wanted: Registration) -> tuple[Outcome, DeploymentRecord]:
        """Raises DeploymentRefused, deployment_uri.UnreadableUri, StoreError. The new state is durable."""
        address = read_address(wanted.uri)
        if not wanted.force:  # what is known is not asked
            known = registrations.at_uri(self._records, address.uri)
            if known:
                return Outcome.UNCHANGED, known[-1]
        reached = await self._discovery.reach(self._connect, address, wanted.headers, wanted.http1)
        used = False
        try:
            async with self._alone():
                known = registrations.at_uri(self._records, address.uri)
                if known and not wanted.force:
                    return Outcome.UNCHANGED, known[-1]
                if len(known) > 1:
                    ids = ", ".join(each.id for each in known)
                    raise coded(
                        409,
                        "META0017",
                        f"several deployments have this address: {ids}; remove all but one",
                    )
                services = registrations.revised(
                    self._records,
                    reached.found.manifest.services,
                    breaking=wanted.breaking or wanted.force,
                )
                id = known[0].id if known else self._new_id()
                record = registrations.discovered(
                    id,
                    address.uri,
                    reached.http_version,
                    reached.found,
                    services,
                    self._now_ms(),
                    wanted.headers,
                    wanted.metadata,
                )
                if not wanted.dry_run:
                    used = True
                    await self._put(record, reached.transport)
                return (Outcome.OVERWRITTEN if known else Outcome.NEW), record
        finally:
            if not used:
                await reached.transport.close()

    async def update(self, deployment_id: str, wanted: Update) -> DeploymentRecord:
        """Raises DeploymentRefused, deployment_uri.UnreadableUri, StoreError."""
        old = self.get(deployment_id)
        if wanted == Update(dry_run=wanted.dry_run):
            return old
        if is_local(old.uri):
            raise DeploymentRefused(
                400, f"deployment '{old.id}' is in this process; it has no address"
            )
        address = read_address(old.uri if wanted.uri is None else wanted.uri)
        http1 = old.http_version == HTTP1 if wanted.http1 is None else wanted.http1
        headers = old.headers if wanted.headers is None else wanted.headers
        reached = None
        if wanted.overwrite or wanted.uri is not None or wanted.http1 is not None:
            reached = await self._discovery.reach(self._connect, address, headers, http1)
        used = False
        try:
            async with self._alone():
                now = self.get(deployment_id)  # it may be gone by now
                record = msgspec.structs.replace(now, headers=headers)
                if reached is not None:
                    if now != old:
                        raise DeploymentRefused(
                            409,
                            f"deployment '{old.id}' was changed while its endpoint was asked; nothing of "
                            "this was written, so try again",
                        )
                    record = msgspec.structs.replace(
                        record, uri=address.uri, http_version=reached.http_version
                    )
                    record = self._updated(record, reached.found, wanted.overwrite)
                if not wanted.dry_run:
                    used = True
                    await self._put(record, None if reached is None else reached.transport)
                return record
        finally:
            if reached is not None and not used:
                await reached.transport.close()

    def _updated(
        self, record: DeploymentRecord, found: Discovered, overwrite: bool
    ) -> DeploymentRecord:
        manifest = found.manifest
        if (manifest.oldest, manifest.newest) != (record.oldest, record.newest):
            raise coded(
                400,
                "META0016",
                f"the endpoint speaks versions {manifest.oldest} to {manifest.newest} of the service "
                f"protocol, deployment '{record.id}' {record.oldest} to {record.newest}: its unfinished "
                "invocations could not go on; register the endpoint as a deployment of its own",
            )
        services = record.services
        if overwrite:
            services = registrations.in_place(
                self._records, record, manifest.services, keep_patches=False
            )
        return msgspec.structs.replace(
            record, bidi=manifest.bidi, sdk_version=found.sdk_version, services=services
        )

    async def remove(self, deployment_id: str) -> None:
        """Raises DeploymentRefused, StoreError. Invocations pinned to it fail until it is back."""
        async with self._alone():
            record = registrations.find(self._records, deployment_id)
            if record is None or self._is_hidden(record):
                raise DeploymentRefused(
                    404, f"not found in the schema registry: deployment with id '{deployment_id}'"
                )
            if self._is_served_here(record):
                raise DeploymentRefused(
                    400,
                    f"deployment '{deployment_id}' is in this process; start the server without it",
                )

            def undeploy() -> None:
                self._transports.pop(deployment_id, None)  # the engine closes it
                self._engine.undeploy(deployment_id)

            await self._commit(registrations.without(self._records, deployment_id), undeploy)

    async def patch_service(self, name: str, patch: ServicePatch) -> None:
        """Change options of a service's latest revision. Raises DeploymentRefused, StoreError."""
        async with self._alone():
            service = self._engine.services().get(name)
            record = None if service is None else self._home(service)
            if service is None or record is None:
                raise DeploymentRefused(
                    404, f"not found in the schema registry: service with name '{name}'"
                )
            if patch.workflow_retention_ms is not None and service.type is not ServiceType.WORKFLOW:
                raise DeploymentRefused(400, registrations.refuse_type(service.type))
            changed = registrations.with_patch(record, name, patch)
            await self._commit(
                registrations.with_record(self._records, changed), lambda: self._deploy(changed)
            )

    # ---- looking ---------------------------------------------------------------------------------

    def records(self) -> list[DeploymentRecord]:
        """All that are shown, in order of their first registration."""
        return [each for each in self._records if not self._is_hidden(each)]

    def get(self, deployment_id: str) -> DeploymentRecord:
        """Raises DeploymentRefused (404)."""
        record = registrations.find(self._records, deployment_id)
        if record is None or self._is_hidden(record):
            raise DeploymentRefused(
                404, f"The requested deployment '{deployment_id}' does not exist"
            )
        return record

    def place(self, deployment_id: str) -> At:
        """A deployment as the engine knows it; one that nobody knows stays what it is."""
        record = registrations.find(self._records, deployment_id)
        here = record is not None and record.uri == IN_PROCESS
        return At("" if here else deployment_id)

    def services_of(self, record: DeploymentRecord) -> tuple[Service, ...]:
        """As that deployment has them; ``deployment_id`` is set in those of this process, too."""
        if record.uri == IN_PROCESS or is_version(record.uri):
            made = self._own_services(record)
            return tuple(msgspec.structs.replace(each, deployment_id=record.id) for each in made)
        return registrations.services_of(record, self._defaults)

    def shown(self, service: Service) -> tuple[Service, Infos]:
        """A service of the engine as listings show it: with its deployment's id, and notes on it."""
        record = self._home(service)
        if record is None:
            return service, {}
        recorded = next(each for each in record.services if each.name == service.name)
        infos = registrations.infos_of(recorded, record)
        return msgspec.structs.replace(service, deployment_id=record.id), infos

    async def statuses(self) -> dict[str, str]:
        """By id: `active` has a latest revision, `draining` unfinished invocations, `drained` neither."""
        pinned = await self._engine.pinned_counts()
        active = {self._home_id(each) for each in self._engine.services().values()}
        found = {}
        for record in self.records():
            if record.id in active:
                found[record.id] = "active"
            else:
                found[record.id] = "draining" if pinned.get(record.id) else "drained"
        return found

    def _home(self, service: Service) -> DeploymentRecord | None:
        return registrations.find(self._records, self._home_id(service))

    def _home_id(self, service: Service) -> str:
        if service.deployment_id:
            return service.deployment_id
        own = registrations.at_uri(self._records, IN_PROCESS)
        return own[0].id if own else ""

    def _is_hidden(self, record: DeploymentRecord) -> bool:
        """This process without a service of its own: kept, so that its id stays what it was."""
        return record.uri == IN_PROCESS and not record.services

    def _is_served_here(self, record: DeploymentRecord) -> bool:
        running = record.id in self._transports or record.id in self._versions
        return record.uri == IN_PROCESS or (is_local(record.uri) and running)

    # ---- carrying it out -------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._lock:
            if self._writing is not None:  # of somebody who was cancelled while it went on
                await asyncio.wait([self._writing])
            yield

    async def _commit(self, records: Records, carry_out: Callable[[], None]) -> None:
        """Write, remember, carry out. Cancelling the caller cancels none of it."""

        async def commit() -> None:
            await asyncio.to_thread(self._file.write, RegistryRecord(records))
            self._records = records
            self._unwritten = False
            carry_out()

        self._writing = asyncio.create_task(commit(), name="perdure registry write")
        await asyncio.shield(self._writing)

    async def _put(self, record: DeploymentRecord, transport: Transport | None) -> None:
        """``transport``: a new one for it, None to keep what it has. It is closed if nothing is written."""

        def carry_out() -> None:
            if transport is not None:
                self._transports[record.id] = transport
            self._deploy(record)

        try:
            await self._commit(registrations.with_record(self._records, record), carry_out)
        except PerdureError:
            if transport is not None:
                await transport.close()
            raise

    def _deploy(self, record: DeploymentRecord) -> None:
        if record.uri == IN_PROCESS:
            for service in self._own_services(record):
                self._engine.registry.add(service, "")
            return
        if is_version(record.uri):
            hosted = self._versions[record.id].hosted
            self._engine.deployments.put_version(record.id, self.services_of(record), hosted)
            return
        local = is_local(record.uri)
        transport = self._transports.get(record.id)
        if transport is None:
            transport = self._connect(record.uri, http2=record.http_version == HTTP2)
            self._transports[record.id] = transport
        spec = DeploymentSpec(
            id=record.id,
            uri=record.uri,
            bidi=record.bidi,
            oldest=record.oldest,
            newest=record.newest,
            path_prefix="" if local else read_address(record.uri).prefix,
            headers=(*self._headers, *record.headers),
            services=registrations.services_of(record, self._defaults),
        )
        self._engine.deploy(spec, transport)

    def _own_services(self, record: DeploymentRecord) -> Iterable[Service]:
        """Those of this process, with what is recorded of them; none of a version that is not loaded."""
        known: Mapping[str, Service] = self._in_process
        if is_version(record.uri):
            known = self._versions[record.id].services if record.id in self._versions else {}
        for each in record.services:
            if each.name not in known:
                continue
            service = effective(patched(known[each.name], each.patch), self._defaults)
            yield msgspec.structs.replace(service, revision=each.revision)

    def _new_id(self) -> str:
        """A ULID: the time, then chance."""
        moment = self._now_ms().to_bytes(6, "big")
        return format_deployment_id(moment + self._random_bytes(_ULID_RANDOM_BYTES))
