"""Endpoints: which services are served together, and how. ``app(...)`` is the short form.

An ``App`` is what `perdure up FILE` and `perdure serve FILE` look for, and an ASGI application that any
server may serve. What that takes is in `asgi.py`, which loads when the first request comes.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from perdure.definition import Definition
from perdure.entry_codec import JournalValueCodec, JournalValueCodecProvider
from perdure.journal.errors import UsageError
from perdure.object import VirtualObject
from perdure.service import Service
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.asgi import Serving

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
        """What `perdure up`, `perdure serve` and ASGI servers serve."""
        return App(self)


class App:
    """An endpoint that is ready to be served: an ASGI application that speaks the service protocol.

    Services that are bound after the first request are not served.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._serving: Serving | None = None

    @property
    def services(self) -> dict[str, AnyService]:
        """By name, in order of binding."""
        return self.endpoint.services

    @property
    def serving(self) -> "Serving":
        """What answers requests. Raises UsageError for a bad identity key."""
        if self._serving is None:
            from perdure.asgi import Serving

            self._serving = Serving(self.endpoint)
        return self._serving

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI server has a request for us, or starts or stops."""
        try:
            serving = self.serving
        except UsageError as e:
            if scope["type"] != "lifespan":
                raise
            await receive()  # the start, which is what this keeps from happening
            await send({"type": "lifespan.startup.failed", "message": str(e)})
            return
        await serving(scope, receive, send)


def app(
    services: Iterable[AnyService],
    protocol: Literal["bidi", "request_response"] | None = None,
    identity_keys: list[str] | None = None,
    journal_value_codec: Codec | None = None,
) -> App:
    """The given services, ready to be served. Raises as ``Endpoint.bind`` does."""
    endpoint = Endpoint().bind(*services)
    endpoint.protocol = protocol
    for key in identity_keys or ():
        endpoint.identity_key(key)
    if journal_value_codec is not None:
        endpoint.set_journal_value_codec(journal_value_codec)
    return endpoint.app()
