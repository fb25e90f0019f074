"""What is asked of the deployment registry, what it answers, and what it needs of others. Shapes only."""

from enum import Enum
from typing import Protocol

import msgspec

from perdure.actors.registry import Registry
from perdure.actors.remote.deployments import Deployments, DeploymentSpec
from perdure.actors.remote.port import Headers, Transport
from perdure.journal.attempt import Deployment
from perdure.journal.schema import Service


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks to be registered. ``headers``: names in lower case."""

    uri: str
    headers: Headers = ()
    metadata: dict[str, str] = {}
    http1: bool = False
    breaking: bool = False
    force: bool = False
    dry_run: bool = False


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of a deployment; None stays. ``overwrite``: take what discovery says now."""

    uri: str | None = None
    headers: Headers | None = None
    http1: bool | None = None
    overwrite: bool = False
    dry_run: bool = False


class Version(msgspec.Struct, frozen=True):
    """A version of this process's code, loaded. ``hash``: of its sources; ``hosted`` makes its attempts."""

    hash: str
    services: dict[str, Service]
    hosted: Deployment


class Outcome(Enum):
    NEW = "new"
    UNCHANGED = "unchanged"
    OVERWRITTEN = "overwritten"


class Engine(Protocol):
    """What this file needs of `actors.engine.Engine`."""

    @property
    def registry(self) -> Registry: ...

    @property
    def deployments(self) -> Deployments: ...

    def deploy(self, spec: DeploymentSpec, transport: Transport) -> None: ...

    def undeploy(self, deployment_id: str) -> None: ...

    def services(self) -> dict[str, Service]: ...

    async def pinned_counts(self) -> dict[str, int]: ...


class Connect(Protocol):
    """Makes the transport to a URI; connecting comes later. ``http2`` False: HTTP/1.1."""

    def __call__(self, uri: str, *, http2: bool) -> Transport: ...
