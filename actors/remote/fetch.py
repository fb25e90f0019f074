"""One whole exchange over any transport: a request that is known, a response that fits in memory.

For discovery and health checks; attempts drive their streams themselves (attempt.py).
"""

import asyncio
from typing import Final

import msgspec

from perdure.actors.remote.port import Headers, HttpRequest, Stream, Transport, TransportFailed

RESPONSE_LIMIT_BYTES: Final = (
    32 << 20
)  # a manifest with the JSON schemas of a large endpoint is 1 MiB
TIMEOUT_S: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024
_HIGH_WATER_BYTES: Final = 256 * 1024  # port.Stream.buffered_bytes


class Response(msgspec.Struct, frozen=True):
    """Names of headers are in lower case."""

    status: int
    headers: Headers
    body: bytes

    def find_header(self, name: str) -> str | None:
        """The first header of this name, in lower case."""
        return next((value for key, value in self.headers if key == name), None)


async def fetch(
    transport: Transport,
    request: HttpRequest,
    *,
    body: bytes = b"",
    limit_bytes: int = RESPONSE_LIMIT_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> Response:
    """Send a request, return its response. Raises TransportFailed, also past the limit and the time."""
    collector = _Collector(limit_bytes)
    stream = transport.open(request, collector)
    try:
        async with asyncio.timeout(timeout_s):
            await _send(stream, collector, body)
            await collector.done
    except TimeoutError:
        raise TransportFailed(
            f"no complete response to {request.method} {request.path} within {timeout_s:g} s"
        ) from None
    finally:
        stream.abort()
    return Response(collector.status, collector.headers, b"".join(collector.parts))


async def _send(stream: Stream, collector: "_Collector", body: bytes) -> None:
    for start in range(0, len(body), _PIECE_BYTES):
        if collector.done.done():
            return
        stream.write(body[start : start + _PIECE_BYTES])
        if stream.buffered_bytes > _HIGH_WATER_BYTES:
            collector.writable.clear()
            await collector.writable.wait()
    stream.close_input()


class _Collector:
    """The receiver. ``done`` has the error, where there is one."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self.status = 0
        self.headers: Headers = ()
        self.parts: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def on_data(self, data: bytes) -> None:
        if self.done.done():
            return
        self._size_bytes += len(data)
        if self._size_bytes > self._limit_bytes:
            self.parts.clear()
            self._finish(
                TransportFailed(f"the response is larger than {self._limit_bytes:,} bytes")
            )
        else:
            self.parts.append(data)

    def on_end(self) -> None:
        self._finish(None)

    def on_failed(self, error: TransportFailed) -> None:
        self._finish(error)

    def on_writable(self) -> None:
        self.writable.set()

    def _finish(self, error: TransportFailed | None) -> None:
        self.writable.set()
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
            self.done.exception()  # seen, even where the timeout came first
