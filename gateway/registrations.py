"""What the deployment registry holds, and what a change makes of it: revisions, types, addresses. Pure.

Writing, discovery and the engine are in gateway/deployments.py. Rules: service protocol 1.4, admin 4.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import TypeAlias

import msgspec

from perdure.actors.remote.port import Headers
from perdure.gateway.admin_models import Infos
from perdure.gateway.deployment_errors import coded
from perdure.gateway.discovery import Discovered
from perdure.gateway.durations import format_duration
from perdure.gateway.manifest import read_service
from perdure.gateway.patches import patched
from perdure.gateway.registry_file import DeploymentRecord, ServicePatch, ServiceRecord
from perdure.journal.effective import effective
from perdure.journal.schema import Defaults, Service, ServiceType
from perdure.journal.wire.versions import NEWEST, OLDEST

Records: TypeAlias = tuple[DeploymentRecord, ...]


def find(records: Records, deployment_id: str) -> DeploymentRecord | None:
    return next((each for each in records if each.id == deployment_id), None)


def at_uri(records: Records, uri: str) -> list[DeploymentRecord]:
    """Those at an address; more than one after an update that moved one there."""
    return [each for each in records if each.uri == uri]


def with_record(records: Records, record: DeploymentRecord) -> Records:
    """With ``record`` in the place of the one with its id, or at the end."""
    if find(records, record.id) is None:
        return (*records, record)
    return tuple(record if each.id == record.id else each for each in records)


def without(records: Records, deployment_id: str) -> Records:
    return tuple(each for each in records if each.id != deployment_id)


def newest(records: Records, name: str) -> ServiceRecord | None:
    """The highest revision of a service anywhere."""
    found = [service for each in records for service in each.services if service.name == name]
    return max(found, key=lambda each: each.revision, default=None)


def is_newest(records: Records, uri: str) -> bool:
    """Whether what is at an address has the highest revision of all that it serves."""
    known = at_uri(records, uri)
    return bool(known) and all(
        newest(records, each.name) is each for record in known for each in record.services
    )


def revised(
    records: Records, services: Iterable[tuple[Service, bytes]], *, breaking: bool
) -> tuple[ServiceRecord, ...]:
    """New revisions of ``services``. Raises META0006 where one changes its type and may not."""
    made = []
    for service, manifest in services:
        before = newest(records, service.name)
        if before is not None and before.type is not service.type and not breaking:
            raise coded(
                409,
                "META0006",
                f"service '{service.name}' is a {before.type.value} in revision {before.revision}, and a "
                f"{service.type.value} in the new deployment, which breaks its callers; choose another "
                'name, or set "breaking": true',
            )
        revision = 1 if before is None else before.revision + 1
        made.append(ServiceRecord(service.name, service.type, revision, manifest))
    return tuple(made)


def in_place(
    records: Records,
    old: DeploymentRecord | None,
    services: Iterable[tuple[Service, bytes]],
    *,
    keep_patches: bool,
) -> tuple[ServiceRecord, ...]:
    """``services`` in the place of those of ``old``, their revisions kept; others get a new one."""
    known = {} if old is None else {each.name: each for each in old.services}
    made: list[ServiceRecord] = []
    for service, manifest in services:
        before = known.get(service.name)
        if before is None:
            made += revised(records, [(service, manifest)], breaking=True)
            continue
        keeps = keep_patches and before.type is service.type
        patch = before.patch if keeps else None
        record = ServiceRecord(service.name, service.type, before.revision, manifest, patch)
        made.append(record)
    return tuple(made)


def merged(old: ServicePatch | None, new: ServicePatch) -> ServicePatch:
    """What ``new`` says, else what ``old`` said."""
    if old is None:
        return new
    changes = {
        name: value
        for name in ServicePatch.__struct_fields__
        if (value := getattr(new, name)) is not None
    }
    return msgspec.structs.replace(old, **changes)


def with_patch(record: DeploymentRecord, name: str, patch: ServicePatch) -> DeploymentRecord:
    services = tuple(
        msgspec.structs.replace(each, patch=merged(each.patch, patch))
        if each.name == name
        else each
        for each in record.services
    )
    return msgspec.structs.replace(record, services=services)


def services_of(record: DeploymentRecord, defaults: Defaults) -> tuple[Service, ...]:
    """The services of a deployment that was discovered, with revision, deployment and patch."""
    made = []
    for each in record.services:
        service = read_service(each.manifest, defaults, bidi=record.bidi)
        service = effective(patched(service, each.patch), defaults)
        made.append(
            msgspec.structs.replace(service, revision=each.revision, deployment_id=record.id)
        )
    return tuple(made)


def in_process(
    id: str, uri: str, created_at_ms: int, services: tuple[ServiceRecord, ...]
) -> DeploymentRecord:
    """Handlers of this SDK, in this process."""
    return DeploymentRecord(
        id,
        uri,
        created_at_ms=created_at_ms,
        oldest=OLDEST,
        newest=NEWEST,
        sdk_version=f"perdure/{version('perdure')}",
        services=services,
    )


def discovered(
    id: str,
    uri: str,
    http_version: str,
    found: Discovered,
    services: tuple[ServiceRecord, ...],
    created_at_ms: int,
    headers: Headers = (),
    metadata: dict[str, str] | None = None,
) -> DeploymentRecord:
    """A deployment with what discovery found."""
    manifest = found.manifest
    return DeploymentRecord(
        id,
        uri,
        manifest.bidi,
        http_version,
        headers,
        metadata or {},
        created_at_ms,
        manifest.oldest,
        manifest.newest,
        found.sdk_version,
        services,
    )


def infos_of(service: ServiceRecord, record: DeploymentRecord) -> Infos:
    """Notes for the admin API (admin 5.1): on the service, under "", and on its handlers by name."""
    if record.bidi or not service.manifest:
        return {}
    given = msgspec.json.decode(service.manifest)
    levels = {"": given} | {each["name"]: each for each in given["handlers"]}
    return {
        name: [_ignored(each["inactivityTimeout"])]
        for name, each in levels.items()
        if each.get("inactivityTimeout") is not None
    }


def _ignored(inactivity_ms: int) -> dict[str, str]:
    text = (
        f"the inactivity timeout of {format_duration(inactivity_ms)} is ignored, since the deployment "
        "answers request by request: its attempts are suspended whenever they wait"
    )
    return {"code": "RT0021", "message": text}


def refuse_type(service_type: ServiceType) -> str:
    """Why a completion retention can't be set on a service that is no workflow (admin 5.3)."""
    return f"modifying retention time for service type {service_type.value} is unsupported"
