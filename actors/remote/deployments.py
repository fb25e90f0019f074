"""Which deployment runs an invocation, and the attempts there. One `Deployment` port for all of them.

The empty id is this process. What is registered, and what a manifest says, is the gateway's matter.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

import msgspec

from perdure.actors.registry import Place, Registry
from perdure.actors.remote.port import Headers, Transport
from perdure.journal.attempt import Attempt, Deployment, Failed, Sink, Start
from perdure.journal.entries import Input
from perdure.journal.errors import PerdureError
from perdure.journal.events import Destination, Nowhere
from perdure.journal.records import Invocation
from perdure.journal.requests import At, DeploymentChoice, Which
from perdure.journal.schema import Service
from perdure.journal.wire.versions import NEWEST, content_type, negotiate

_TRACE_HEADERS = ("traceparent", "tracestate")


class DeploymentSpec(msgspec.Struct, frozen=True):
    """A registered deployment. ``bidi``: frames go in both directions at once (protocol 2.4)."""

    id: str
    uri: str
    bidi: bool
    oldest: int  # versions of the service protocol that it speaks
    newest: int
    path_prefix: str  # of its URI, without a slash at the end
    headers: Headers  # with every request
    services: tuple[Service, ...]


class Signing(Protocol):
    """Says who asks (protocol 2.3)."""

    def headers(self, path: str, sub: str | None, now_s: int) -> Headers:
        """``path`` without the deployment's prefix; ``sub``: the object key, where there is one."""


class RemoteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``message_limit_bytes`` bounds one frame from a deployment."""

    newest_version: int = NEWEST
    message_limit_bytes: int = 32 << 20
    signing: Signing | None = None


class Undeployed(PerdureError):
    """Nothing runs this invocation now; somebody may register it again (RT0011)."""


class Deployments:
    """Implements ``journal.attempt.Deployment`` over all deployments. Used on the loop only."""

    def __init__(
        self, in_process: Deployment, registry: Registry, options: RemoteOptions | None = None
    ) -> None:
        self._in_process = in_process
        self._registry = registry
        self._options = options or RemoteOptions()
        self._remote: dict[str, tuple[DeploymentSpec, Transport]] = {}
        self._versions: dict[str, Deployment] = {}  # of the code, in this process
        self._leaving: dict[Transport, asyncio.Task[None]] = {}  # used by open attempts only

    # ---- what is deployed

    def put(self, spec: DeploymentSpec, transport: Transport) -> None:
        """Add a deployment or replace it."""
        _, old = self._remote.get(spec.id, (None, None))
        self._remote[spec.id] = (spec, transport)
        if old is not None and old is not transport:
            self._let_go(old)
        self._list(spec.id, spec.services)

    def put_version(
        self, deployment_id: str, services: tuple[Service, ...], deployment: Deployment
    ) -> None:
        """Add a version of this process's code under an id of its own, or replace it."""
        self._versions[deployment_id] = deployment
        self._list(deployment_id, services)

    def _list(self, deployment_id: str, services: tuple[Service, ...]) -> None:
        self._registry.remove(deployment_id, keep=[each.name for each in services])
        for service in services:
            self._registry.add(service, deployment_id)

    def remove(self, deployment_id: str) -> None:
        """Forget a deployment; invocations that are pinned to it wait until it is back."""
        self._registry.remove(deployment_id)
        self._versions.pop(deployment_id, None)
        _, transport = self._remote.pop(deployment_id, (None, None))
        if transport is not None:
            self._let_go(transport)

    def _let_go(self, transport: Transport) -> None:
        """Close it when the attempts that are open there are over."""
        self._leaving[transport] = asyncio.get_running_loop().create_task(self._leave(transport))

    async def _leave(self, transport: Transport) -> None:
        await transport.drained()
        await transport.close()
        del self._leaving[transport]

    async def close(self) -> None:
        """Abort what is open and let every transport go."""
        for deployment_id in list(self._remote):
            self.remove(deployment_id)
        leaving = dict(self._leaving)
        await asyncio.gather(*(each.close() for each in leaving), *leaving.values())

    # ---- attempts

    def place(self, record: Invocation) -> Place:
        """Where the next attempt of an invocation runs. Raises Undeployed."""
        name = f"{record.service}/{record.handler}"
        id = record.deployment_id if record.pinned else self._registry.home(record.service)
        handler = self._registry.handler(record.service, record.handler, id)
        if handler is None:
            if id:
                where = f"deployment {id}, where it began,"
                cure = "pause the invocation and resume it at another deployment that has it"
            else:
                where, cure = "this process", "register a deployment that has it"
            raise Undeployed(
                f"[RT0011] {where} has no handler {name}; {cure}, or start Perdure with the file that "
                "defines it"
            )
        if not id or id in self._versions:
            return Place(id, handler)
        spec, transport = self._remote[id]
        version = record.protocol_version
        if not version:
            chosen = negotiate(spec.oldest, spec.newest, self._options.newest_version)
            version = chosen or 0
        if not spec.oldest <= version <= spec.newest:
            raise Undeployed(
                f"[RT0013] deployment {id} speaks versions {spec.oldest} to {spec.newest} of the "
                f"service protocol, not {version or self._options.newest_version}"
            )
        bidi = spec.bidi and handler.inactivity_timeout_ms > 0
        return Place(id, handler, version, bidi, transport.gates_runs)

    def destination(self, record: Invocation, choice: DeploymentChoice) -> Destination | Nowhere:
        """Where an operator wants the next attempt of an invocation, or of one made from it."""
        latest = choice is Which.LATEST or (choice is Which.KEEP and not record.pinned)
        if isinstance(choice, At):
            id = choice.deployment_id
        else:
            id = self._registry.home(record.service) if latest else record.deployment_id
        handler = self._registry.handler(record.service, record.handler, id)
        if handler is None:
            return Nowhere()
        if not id or id in self._versions:
            return Destination(handler, id, is_latest=latest)
        spec, _ = self._remote[id]
        version = negotiate(spec.oldest, spec.newest, self._options.newest_version) or 0
        return Destination(handler, id, spec.oldest, spec.newest, version, latest)

    def start(self, start: Start, sink: Sink) -> Attempt:
        """Begin an attempt where ``start`` says."""
        if not start.deployment_id:
            return self._in_process.start(start, sink)
        version = self._versions.get(start.deployment_id)
        if version is not None:
            return version.start(start, sink)
        found = self._remote.get(start.deployment_id)
        if found is None:
            return Refused(sink, f"[RT0011] deployment {start.deployment_id} was removed")
        # Few starts need it, and protobuf with it.
        from perdure.actors.remote.attempt import StreamAttempt

        spec, transport = found
        return StreamAttempt(
            start,
            sink,
            transport,
            path=f"{spec.path_prefix}/invoke/{start.handler.service}/{start.handler.name}",
            headers=self._headers(spec, start, sink.now_ms),
            bidi=spec.bidi and start.handler.inactivity_timeout_ms > 0,
            limit_bytes=self._options.message_limit_bytes,
        )

    def _headers(self, spec: DeploymentSpec, start: Start, now_ms: Callable[[], int]) -> Headers:
        kind = content_type(start.protocol_version)
        headers: Headers = (
            ("content-type", kind),
            ("accept", kind),
            ("x-restate-invocation-id", start.invocation_id),
        )
        keyed = start.handler.keyed
        if keyed:
            headers += (("x-restate-service-key", quote(start.key, safe="")),)
        signing = self._options.signing
        if signing is not None:
            path = f"/invoke/{start.handler.service}/{start.handler.name}"
            headers += signing.headers(path, start.key if keyed else None, now_ms() // 1000)
        return headers + _trace(start) + spec.headers


def _trace(start: Start) -> Headers:
    """The caller's trace goes on in the handler, below the span of its attempt."""
    first = start.entries[0]
    assert type(first) is Input, "entry 0 of a journal is its Input"
    given = tuple(pair for pair in first.headers if pair[0] in _TRACE_HEADERS)
    if not start.trace:
        return given
    own = tuple(pair for pair in given if pair[0] != "traceparent")
    return (("traceparent", start.trace), *own)


class Refused:
    """An attempt at a deployment that went between the decision and the commit."""

    def __init__(self, sink: Sink, message: str) -> None:
        failed = Failed(500, message, counts=False)
        self._telling = asyncio.get_running_loop().call_soon(sink.emit, (failed,))

    def deliver(self, entries: object) -> None:
        """Nobody is there to take it."""

    def pass_barrier(self, completion_id: int) -> None:
        """There are none."""

    def close_input(self) -> None:
        """The failure is on its way."""

    def abort(self) -> None:
        self._telling.cancel()
