"""The JSON of deployments in the admin API, and bodies of requests about them. Pure.

Field order is part of the contract. Rules: admin 3, 4 and 5.3.
"""

from typing import Final

import msgspec

from perdure.actors.remote.port import Headers
from perdure.gateway.admin_models import service_json
from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.deployment_requests import Registration, Update
from perdure.gateway.durations import parse_duration_ms, rfc3339_ns
from perdure.gateway.registrations import infos_of
from perdure.gateway.registry_file import DeploymentRecord, ServicePatch
from perdure.journal.schema import Defaults, Service

_TOKEN_CHARACTERS: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
# They say how a message is framed or what is in it, which is for the transport and the protocol to say.
_NOT_THEIRS: Final = frozenset({
    "accept", "connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


# ---- in ------------------------------------------------------------------------------------------


class RegisterBody(msgspec.Struct, frozen=True):
    """`uri` or `arn` decides what it is."""

    uri: str | None = None
    arn: str | None = None
    additional_headers: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    use_http_11: bool = False
    breaking: bool = False
    force: bool | None = None
    dry_run: bool = False
    auth: dict[str, object] | None = None


class UpdateBody(msgspec.Struct, frozen=True):
    uri: str | None = None
    arn: str | None = None
    additional_headers: dict[str, str] | None = None
    use_http_11: bool | None = None
    overwrite: bool = False
    dry_run: bool = False


class PatchBody(msgspec.Struct, frozen=True):
    public: bool | None = None
    idempotency_retention: str | None = None
    workflow_completion_retention: str | None = None
    journal_retention: str | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None


def registration(body: RegisterBody, force_by_default: bool) -> Registration:
    """Raises DeploymentRefused for what this server does not do, and ValueError without an address."""
    if body.arn is not None and body.uri is None:
        raise _lambda()
    if body.uri is None:
        raise ValueError(
            "data did not match any variant of untagged enum RegisterDeploymentRequest"
        )
    if body.auth is not None:
        raise DeploymentRefused(
            400, "'auth' is not supported; put a token into 'additional_headers' instead"
        )
    return Registration(
        uri=body.uri,
        headers=_headers(body.additional_headers),
        metadata=body.metadata or {},
        http1=body.use_http_11,
        breaking=body.breaking,
        force=force_by_default if body.force is None else body.force,
        dry_run=body.dry_run,
    )


def update(body: UpdateBody, overwrite: bool) -> Update:
    """Raises DeploymentRefused. ``overwrite`` in any case, for the old `PUT`."""
    if body.arn is not None:
        raise _lambda()
    headers = body.additional_headers
    return Update(
        uri=body.uri,
        headers=None if headers is None else _headers(headers),
        http1=body.use_http_11,
        overwrite=body.overwrite or overwrite,
        dry_run=body.dry_run,
    )


def patch(body: PatchBody) -> ServicePatch:
    """Raises ValueError for what is no duration."""

    def millis(text: str | None) -> int | None:
        return None if text is None else parse_duration_ms(text)

    return ServicePatch(
        public=body.public,
        idempotency_retention_ms=millis(body.idempotency_retention),
        workflow_retention_ms=millis(body.workflow_completion_retention),
        journal_retention_ms=millis(body.journal_retention),
        inactivity_timeout_ms=millis(body.inactivity_timeout),
        abort_timeout_ms=millis(body.abort_timeout),
    )


def _lambda() -> DeploymentRefused:
    return DeploymentRefused(400, "Lambda deployments ('arn') are not supported; register a 'uri'")


def _headers(given: dict[str, str] | None) -> Headers:
    """Names in lower case. Raises DeploymentRefused for what no request may carry."""
    headers = []
    for name, value in (given or {}).items():
        lowered = name.lower()
        if not name or not _TOKEN_CHARACTERS.issuperset(name):
            raise _bad_header("a name of letters, digits and hyphens", name)
        if lowered in _NOT_THEIRS:
            raise _bad_header("a header that the protocol does not set itself", name)
        if not all(c == "\t" or " " <= c <= "~" for c in value):
            raise _bad_header("a value of visible ASCII", name)
        headers.append((lowered, value.strip(" \t")))
    return tuple(headers)


def _bad_header(expected: str, name: str) -> DeploymentRefused:
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return DeploymentRefused(
        400,
        "The request field 'additional_headers' is invalid. Reason: expected "
        f"{expected}, found '{shown}'",
    )


# ---- out -----------------------------------------------------------------------------------------


def registered_json(
    record: DeploymentRecord, services: tuple[Service, ...], defaults: Defaults
) -> dict[str, object]:
    """The answer to a registration."""
    shown: dict[str, object] = {
        "id": record.id,
        "services": _services_json(record, services, defaults),
        "min_protocol_version": record.oldest,
        "max_protocol_version": record.newest,
    }
    if record.sdk_version is not None:
        shown["sdk_version"] = record.sdk_version
    return shown


def deployment_json(
    record: DeploymentRecord, services: list[dict[str, object]], status: str
) -> dict[str, object]:
    """One deployment. ``status`` (active, draining, drained) is ours; the rest is as in admin 4.2."""
    shown: dict[str, object] = {
        "id": record.id,
        "uri": record.uri,
        "protocol_type": "BidiStream" if record.bidi else "RequestResponse",
        "http_version": record.http_version,
    }
    if record.headers:
        shown["additional_headers"] = dict(record.headers)
    if record.metadata:
        shown["metadata"] = record.metadata
    shown["created_at"] = rfc3339_ns(record.created_at_ms)
    shown["min_protocol_version"] = record.oldest
    shown["max_protocol_version"] = record.newest
    if record.sdk_version is not None:
        shown["sdk_version"] = record.sdk_version
    shown["services"] = services
    shown["status"] = status
    return shown


def names_json(record: DeploymentRecord) -> list[dict[str, object]]:
    return [{"name": each.name, "revision": each.revision} for each in record.services]


def detailed_json(
    record: DeploymentRecord, services: tuple[Service, ...], status: str, defaults: Defaults
) -> dict[str, object]:
    return deployment_json(record, _services_json(record, services, defaults), status)


def _services_json(
    record: DeploymentRecord, services: tuple[Service, ...], defaults: Defaults
) -> list[dict[str, object]]:
    recorded = {each.name: each for each in record.services}
    return [
        service_json(each, defaults, infos_of(recorded[each.name], record)) for each in services
    ]
