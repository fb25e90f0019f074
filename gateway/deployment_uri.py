"""The address of a deployment as somebody typed it, checked and normalised. Pure.

Where a name leads to is looked at when a connection is made: actors/remote/addresses.py.
Rules: admin 4.1, service protocol 1.1, reliability S5.
"""

import re
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from perdure.gateway.deployment_errors import DeploymentRefused

# Official tools read every address as a URI, so these are some, too.
IN_PROCESS: Final = "inprocess:"
_VERSION: Final = "inprocess:code/"
_HOSTED: Final = "asgi://inprocess/"
_ILLEGAL: Final = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")
_SCHEMES: Final = ("http", "https")


class UnreadableUri(ValueError):
    """The text is no URI at all: the body has the wrong shape (422)."""


class Address(msgspec.Struct, frozen=True):
    """``uri`` is the whole, normalised; ``prefix`` its path without a slash at the end."""

    uri: str
    prefix: str
    query: str = ""

    def path(self, below: str) -> str:
        """The request path of something below the deployment's own path, its query kept."""
        return f"{self.prefix}{below}?{self.query}" if self.query else self.prefix + below


def is_local(uri: str) -> bool:
    """Whether the deployment is in this process, and so nothing can be said of its address."""
    return uri == IN_PROCESS or is_hosted(uri) or is_version(uri)


def is_version(uri: str) -> bool:
    """Whether it is a version of the code of `perdure up --versions`."""
    return uri.startswith(_VERSION)


def version_uri(hash: str) -> str:
    """The lasting address of a version, by the hash of its sources."""
    return _VERSION + hash


def version_hash(uri: str) -> str:
    """The hash of the sources of a version."""
    return uri.removeprefix(_VERSION)


def is_hosted(uri: str) -> bool:
    """Whether it is an app of another SDK in this process."""
    return uri.startswith(_HOSTED)


def hosted_uri(name: str) -> str:
    """The lasting address of the app that is called ``name``, such as `shop.orders:app`."""
    return _HOSTED + quote(name, safe=":.-_")


def read_address(text: str) -> Address:
    """Raises UnreadableUri, and DeploymentRefused where it is a URI that no deployment can have."""
    if not text or _ILLEGAL.search(text):
        raise UnreadableUri("invalid uri character")
    if "://" not in text:
        raise _bad(f"The provided uri {text} is not absolute, only absolute URIs can be used.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise UnreadableUri(str(e)) from None
    if parts.scheme not in _SCHEMES:
        raise _bad(f"The scheme of {parts.scheme}://... must be http or https.")
    if parts.username is not None or parts.password is not None:
        raise _bad("A uri with a user name or a password is refused; use additional_headers.")
    if not host or port == 0:
        raise UnreadableUri("expected a host, and a port from 1 to 65535 or none")
    return _address(parts, host, port)


def _address(parts: SplitResult, host: str, port: int | None) -> Address:
    shown = f"[{host}]" if ":" in host else host
    place = shown if port is None else f"{shown}:{port}"
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    return Address(f"{parts.scheme}://{place}{path}{query}", path.rstrip("/"), parts.query)


def _bad(reason: str) -> DeploymentRefused:
    return DeploymentRefused(400, f"The request field 'uri' is invalid. Reason: {reason}")
