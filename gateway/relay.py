"""HTTP/2 for what is served by aiohttp alone: each request goes to it as one of HTTP/1.0, over a socket pair.

For clients of the admin API that begin with HTTP/2, which are few: an answer is taken whole. In HTTP/1.0
it ends where the connection does, so nothing of it has to be decoded here. Rules: admin 1.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Final

from perdure.gateway.http_request import HttpRequest
from perdure.gateway.responses import Refusal, refusal_body
from perdure.gateway.wire import JSON, Reply

_METHOD: Final = re.compile(r"[A-Z]+")
_TARGET: Final = re.compile(r"/[!-~]*")
_VALUE: Final = re.compile(r"[^\r\n\0]*")
_OF_THE_CONNECTION: Final = frozenset({b"connection", b"content-length", b"date", b"keep-alive"})


class Relay:
    """``connection`` makes the protocol of a connection that takes HTTP/1."""

    def __init__(self, connection: Callable[[], asyncio.Protocol], limit_bytes: int) -> None:
        self._connection = connection
        self._limit_bytes = limit_bytes

    async def answer(self, request: HttpRequest) -> Reply:
        body = await request.body(self._limit_bytes)
        if isinstance(body, Refusal):
            return _refused(body)
        head = _head(request, len(body))
        if head is None:
            return _refused(Refusal(400, "malformed HTTP request: expected a method and a path"))
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(self._connection, theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(head + body)
            return _reply(await reader.read())
        finally:
            writer.close()


def _head(request: HttpRequest, body_bytes: int) -> bytes | None:
    """None for what would not be one request of HTTP/1."""
    fields = {**request.headers, "content-length": str(body_bytes)}
    if not (
        _METHOD.fullmatch(request.method)
        and _TARGET.fullmatch(request.raw_path)
        and all(_VALUE.fullmatch(value) for value in fields.values())
    ):
        return None
    lines = [f"{request.method} {request.raw_path} HTTP/1.0"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _reply(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    _, status, _ = first.split(b" ", 2)
    pairs = [line.split(b": ", 1) for line in lines]
    kept = [b"%s: %s\r\n" % (n.lower(), v) for n, v in pairs if n.lower() not in _OF_THE_CONNECTION]
    return Reply(int(status), b"".join(kept), body)


def _refused(refusal: Refusal) -> Reply:
    return Reply(refusal.status, JSON, refusal_body(refusal))
