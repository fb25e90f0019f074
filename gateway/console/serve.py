"""The console's files: one page, a few scripts, one style sheet, an icon. From the package, from memory.

Nothing here is computed from a request but which file it gets. Every answer under /ui, those of the
read API too, carries ``HEADERS``: the page may load and reach nothing but this server, no other site
may frame it, and no text can become a script.
"""

import gzip
import hashlib
from functools import cache
from importlib import resources
from typing import Final

import msgspec
from aiohttp import hdrs, web

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
INDEX: Final = "index.html"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


class File(msgspec.Struct, frozen=True):
    content: bytes
    zipped: bytes
    content_type: str
    etag: str


@cache
def files() -> dict[str, File]:
    """All there is to serve, by name."""
    found = {}
    for each in resources.files("perdure.gateway.console").joinpath("static").iterdir():
        kind = _TYPES.get(each.name.rpartition(".")[2])
        if kind is not None:
            content = each.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[each.name] = File(content, gzip.compress(content, 9, mtime=0), kind, etag)
    return found


def answer(request: web.BaseRequest, path: str) -> web.Response:
    """The file behind ``path`` (after ``/ui/``); any other path is the page's own business."""
    if request.method not in ("GET", "HEAD"):
        return web.Response(status=405, headers={**HEADERS, hdrs.ALLOW: "GET,HEAD"})
    found = files()
    file = found.get(path)
    if file is None:
        if "." in path.rpartition("/")[2] and path.rpartition(".")[2] in _TYPES:
            return web.Response(status=404, headers=HEADERS)  # a page would hide a missing script
        file = found[INDEX]
    headers = {
        **HEADERS,
        hdrs.ETAG: file.etag,
        hdrs.CACHE_CONTROL: "no-cache",  # kept, but asked for each time
        hdrs.VARY: "accept-encoding",
    }
    if file.etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = file.content_type
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=file.zipped, headers=headers)
    return web.Response(body=file.content, headers=headers)
