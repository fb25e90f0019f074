"""One HTTP request, as the ingress sees it: whoever read it from the wire, aiohttp or the short way.

Rules: ingress 12.2 (each header once, with its first value, under its lower-case name).
"""

from typing import Protocol

from perdure.gateway.responses import Refusal


class HttpRequest(Protocol):
    """``raw_path``: the target as it came, with its query."""

    @property
    def method(self) -> str: ...

    @property
    def raw_path(self) -> str: ...

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def announced_bytes(self) -> int:
        """How long the body is, as far as that is known before it is read."""

    async def body(self, limit_bytes: int) -> bytes | Refusal:
        """The whole body. Raises ConnectionError when the client goes away first."""
