"""Who may call an endpoint: requests that carry a JWT signed by one of the keys it was given (Ed25519).

Only checks; requests are signed elsewhere. Loads cryptography, so it is imported where an endpoint has
keys and nowhere else. Rules and test vector: service protocol 2.3.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from perdure.journal.errors import PerdureError, UsageError

KEY_PREFIX: Final = "publickeyv1_"
SCHEME_HEADER: Final = "x-restate-signature-scheme"
TOKEN_HEADER: Final = "x-restate-jwt-v1"
_SCHEME: Final = "v1"
_KEY_BYTES: Final = 32
_REQUIRED_CLAIMS: Final = ["aud", "exp", "iat", "nbf"]
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {each: value for value, each in enumerate(_BASE58)}


class Unauthorized(PerdureError):
    """The request is not signed, or not by a key of ours, or not for this path and time."""

    code = 401


class IdentityVerifier:
    """Knows the keys. Raises UsageError for a text that is no key."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = {key: Ed25519PublicKey.from_public_bytes(raw_key(key)) for key in keys}

    def verify(self, headers: Mapping[str, str], path: str) -> None:
        """``headers`` by lower-case name; ``path`` without a mount prefix. Raises Unauthorized."""
        scheme = headers.get(SCHEME_HEADER)
        if scheme != _SCHEME:
            raise Unauthorized(
                f"this endpoint takes signed requests only: {SCHEME_HEADER} must be {_SCHEME!r},"
                f" found {'none' if scheme is None else repr(scheme)}"
            )
        token = headers.get(TOKEN_HEADER)
        if not token:
            raise Unauthorized(f"the header {TOKEN_HEADER} is missing")
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(str(key_id))
            if key is None:
                raise Unauthorized(f"signed by {key_id!r}, which is no key of this endpoint")
            required = _REQUIRED_CLAIMS
            jwt.decode(
                token, key, algorithms=["EdDSA"], audience=path, options={"require": required}
            )
        except jwt.InvalidTokenError as e:
            raise Unauthorized(f"the signature of the request does not hold for {path}: {e}") from e


def raw_key(key: str) -> bytes:
    """The 32 bytes of ``publickeyv1_…``. Raises UsageError."""
    problem = f"bad identity key {key!r}: "
    if not key.startswith(KEY_PREFIX):
        raise UsageError(f"{problem}it begins with {KEY_PREFIX!r}")
    try:
        raw = decode_base58(key[len(KEY_PREFIX) :])
    except ValueError as e:
        raise UsageError(f"{problem}{e}") from e
    if len(raw) != _KEY_BYTES:
        raise UsageError(f"{problem}it holds {len(raw)} bytes, not {_KEY_BYTES}; is it cut off?")
    return raw


def decode_base58(text: str) -> bytes:
    """Bitcoin's alphabet; each leading ``1`` is a zero byte. Raises ValueError."""
    number = 0
    for each in text:
        digit = _DIGITS.get(each)
        if digit is None:
            raise ValueError(f"{each!r} is no digit of base58")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
