"""The version of a key's state: a digest, so that clients can compute it themselves (admin 5.5)."""

import base64
import hashlib
from collections.abc import Mapping


def state_version(state: Mapping[str, bytes]) -> str:
    """Base64url without padding of SHA-256 over index, name and value in the names' byte order."""
    digest = hashlib.sha256()
    for index, (name, value) in enumerate(sorted((k.encode(), v) for k, v in state.items())):
        digest.update(index.to_bytes(8, "big") + b"\x01" + name + b"\x02" + value + b"\x03")
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
