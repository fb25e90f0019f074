"""Versions of the service protocol: their content types, and which one two peers speak.

Rules: service protocol 2.1, 2.5. What differs between versions lives where it is encoded.
"""

OLDEST = 5
NEWEST = 7

_CONTENT_TYPES = {
    version: f"application/vnd.restate.invocation.v{version}"
    for version in range(OLDEST, NEWEST + 1)
}
_VERSIONS = {content_type: version for version, content_type in _CONTENT_TYPES.items()}


def content_type(version: int) -> str:
    """Of requests and responses of an invocation. ``version``: OLDEST to NEWEST, else KeyError."""
    return _CONTENT_TYPES[version]


def version_of(content_type: str) -> int | None:
    """None for anything but the exact content type of a version we speak."""
    return _VERSIONS.get(content_type)


def negotiate(oldest: int, newest: int, our_newest: int = NEWEST) -> int | None:
    """The highest version that a deployment for ``oldest`` to ``newest`` and we speak, or None."""
    chosen = min(newest, our_newest)
    return chosen if max(oldest, OLDEST) <= chosen else None
