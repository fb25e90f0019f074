"""The transport port: one HTTP exchange with a deployment, full duplex, by callbacks on the loop.

Three transports implement it (http2, http1, asgi); the attempt driver and discovery use it. Nothing here
knows what the bytes mean.
"""

from typing import Protocol

import msgspec

from perdure.journal.errors import PerdureError

Headers = tuple[tuple[str, str], ...]  # names in lower case, in order


class TransportFailed(PerdureError):
    """The exchange broke: no connection, reset, timeout, or the peer broke HTTP (RT0010)."""


class Http1Only(TransportFailed):
    """The peer does not offer HTTP/2 in TLS (ALPN), so it speaks HTTP/1.1."""


class HttpRequest(msgspec.Struct, frozen=True):
    """``path`` begins with a slash, has the deployment's own path in front, and may have a query."""

    method: str
    path: str
    headers: Headers


class Receiver(Protocol):
    """Who hears the response. Called on the loop, never from within a call of ``Transport`` or ``Stream``.

    First ``on_head``, then data, then exactly one of ``on_end`` and ``on_failed``, after which nothing
    comes any more; ``on_failed`` may come at any time. After ``Stream.abort`` nothing comes at all.
    """

    def on_head(self, status: int, headers: Headers) -> None:
        """The final response head; informational ones are skipped."""

    def on_data(self, data: bytes) -> None:
        """Some bytes of the response body, cut anywhere."""

    def on_end(self) -> None:
        """The response is complete."""

    def on_failed(self, error: TransportFailed) -> None:
        """The exchange is over without a complete response."""

    def on_writable(self) -> None:
        """``buffered_bytes`` fell below the transport's low-water mark (64 KiB) after it was above it."""


class Stream(Protocol):
    """One exchange. No call blocks; after its end all of them do nothing."""

    @property
    def buffered_bytes(self) -> int:
        """What was written and has not left yet. The writer stops above 256 KiB until ``on_writable``."""

    def write(self, data: bytes) -> None:
        """Append to the request body."""

    def close_input(self) -> None:
        """The request body is complete (END_STREAM); the response may go on. Idempotent."""

    def pause(self) -> None:
        """Deliver no more data until ``resume``; the peer is held back by flow control."""

    def resume(self) -> None:
        """Go on delivering, in a later turn of the loop."""

    def open_gate(self) -> None:
        """Where the transport holds back run commands: all that were delivered may have an effect now."""

    def abort(self) -> None:
        """Reset the exchange; the receiver hears nothing more."""


class Transport(Protocol):
    """The way to one deployment: its connections, however many there are."""

    @property
    def gates_runs(self) -> bool:
        """Whether who sends a run command goes on only after ``Stream.open_gate``. Then nothing that it
        does has an effect outside before that, and an attempt may run ahead of the disk."""

    def open(self, request: HttpRequest, receiver: Receiver) -> Stream:
        """Begin an exchange; connecting happens behind it. The body follows through the stream."""

    async def drained(self) -> None:
        """Wait until no exchange is open."""

    async def close(self) -> None:
        """Abort what is open and let all connections go."""
