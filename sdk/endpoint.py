"""Endpoints: which services are served together, and how. ``app(...)`` is the short form.

An ``App`` is what `perdure up FILE` looks for. Nothing is served from here.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from perdure.definition import Definition
from perdure.entry_codec import JournalValueCodec, JournalValueCodecProvider
from perdure.journal.errors import UsageError
from perdure.object import VirtualObject
from perdure.service import Service
from perdure.workflow import Workflow

AnyService: TypeAlias = Service | VirtualObject | Workflow
Codec: TypeAlias = JournalValueCodec | JournalValueCodecProvider


class Endpoint:
    """A set of services with the settings of the connection to whoever calls them."""

    def __init__(self) -> None:
        self.services: dict[str, AnyService] = {}
        self.protocol: Literal["bidi", "request_response"] | None = None  # None: as asked for
        self.identity_keys: list[str] = []
        self.journal_value_codec: Codec | None = None

    def bind(self, *services: AnyService) -> "Endpoint":
        """Add services. Raises ValueError for a name that is taken or for what is no service."""
        for service in services:
            if not isinstance(service, Definition):
                raise ValueError(
                    f"Invalid service type {service!r}: expected a Service, VirtualObject or Workflow"
                )
            if service.name in self.services:
                raise ValueError(f"Service {service.name} already exists")
            self.services[service.name] = service
        return self

    def streaming_protocol(self) -> "Endpoint":
        """Frames in both directions at once, which needs HTTP/2."""
        self.protocol = "bidi"
        return self

    def request_response_protocol(self) -> "Endpoint":
        """One request, one response per attempt."""
        self.protocol = "request_response"
        return self

    def identity_key(self, identity_key: str) -> None:
        """Accept requests that are signed with this key; with any key, only those."""
        self.identity_keys.append(identity_key)

    def set_journal_value_codec(self, codec_or_provider: Codec) -> "Endpoint":
        """Pass every value through a codec on its way to and from the journal."""
        self.journal_value_codec = codec_or_provider
        return self

    def app(self) -> "App":
        """What `perdure up` serves."""
        return App(self)


class App:
    """An endpoint that is ready to be served; iterating gives its services."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @property
    def services(self) -> dict[str, AnyService]:
        """By name, in order of binding."""
        return self.endpoint.services

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI servers land here; they are not what serves an App."""
        raise UsageError(
            "handlers run inside Perdure's own process: serve them with `perdure up FILE`, or with "
            "`perdure.open(path, services=[...])` in a program of yours, not with an ASGI server"
        )


def app(
    services: Iterable[AnyService],
    protocol: Literal["bidi", "request_response"] | None = None,
    identity_keys: list[str] | None = None,
    journal_value_codec: Codec | None = None,
) -> App:
    """The given services, ready for `perdure up`. Raises as ``Endpoint.bind`` does."""
    endpoint = Endpoint().bind(*services)
    endpoint.protocol = protocol
    for key in identity_keys or ():
        endpoint.identity_key(key)
    if journal_value_codec is not None:
        endpoint.set_journal_value_codec(journal_value_codec)
    return endpoint.app()
