"""Where a deployment is: the origin of its URI, and the addresses behind its name."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec

Resolve = Callable[
    [str, int], Awaitable[list[tuple[str, int]]]
]  # host, port -> addresses, best first

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True):
    """``authority`` is what ``:authority`` says: the host, and the port where it is not the scheme's own."""

    scheme: str
    host: str  # an IPv6 address without brackets
    port: int
    authority: str

    @property
    def uri(self) -> str:
        """The origin alone, as messages name it."""
        return f"{self.scheme}://{self.authority}"


def origin_of(uri: str) -> Origin:
    """Raises ValueError where ``uri`` has no http or https origin."""
    parts = urlsplit(uri)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{uri!r} is not an http:// or https:// URI with a host")
    host = parts.hostname
    default = _DEFAULT_PORTS[parts.scheme]
    port = default if parts.port is None else parts.port
    shown = f"[{host}]" if ":" in host else host
    return Origin(parts.scheme, host, port, shown if port == default else f"{shown}:{port}")


async def resolve_freely(host: str, port: int) -> list[tuple[str, int]]:
    """Every address of ``host``, as the system orders them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]
