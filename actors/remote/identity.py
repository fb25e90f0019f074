"""Request identity: two headers that prove to a deployment that a request is this server's.

A JWT per request, signed with Ed25519. Reads no file and no clock. Rules: service protocol 2.3.
"""

import base64
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from perdure.actors.remote.port import Headers
from perdure.journal.errors import PerdureError

_LIFETIME_S: Final = 60  # before and after now
_KEY_ID_PREFIX: Final = "publickeyv1_"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SCHEME: Final = ("x-restate-signature-scheme", "v1")
_TOKEN_HEADER: Final = "x-restate-jwt-v1"
_BLOCK_START: Final = b"-----BEGIN "

_json = msgspec.json.Encoder().encode


class BadKey(PerdureError):
    """The file is no Ed25519 private key in PKCS#8 PEM; the message says what it is."""


class Signer:
    """Signs requests with one key. ``key_id`` is what deployments are configured with; no secret."""

    def __init__(self, pem: bytes) -> None:
        """``pem``: one PKCS#8 block of an Ed25519 private key. Raises BadKey."""
        self._key = _load(pem)
        self.key_id = _KEY_ID_PREFIX + _base58(self._key.public_key().public_bytes_raw())
        head = {"typ": "JWT", "alg": "EdDSA", "kid": self.key_id}
        self._head = _base64url(_json(head)) + b"."

    def headers(self, path: str, sub: str | None, now_s: int) -> Headers:
        """The two headers of one request.

        ``path`` has neither the deployment's own path nor a query: `/discover`,
        `/invoke/Counter/add`. ``sub``: the object or workflow key, None where there is none.
        """
        claims: dict[str, str | int] = {
            "aud": path,
            "exp": now_s + _LIFETIME_S,
            "iat": now_s,
            "nbf": now_s - _LIFETIME_S,
        }
        if sub is not None:
            claims["sub"] = sub
        signed = self._head + _base64url(_json(claims))
        token = signed + b"." + _base64url(self._key.sign(signed))
        return (_SCHEME, (_TOKEN_HEADER, token.decode("ascii")))


def _load(pem: bytes) -> Ed25519PrivateKey:
    blocks = pem.count(_BLOCK_START)
    if blocks != 1:
        raise BadKey(f"expected one PEM block with a private key, found {blocks or 'none'}")
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise BadKey("the private key is encrypted; store it without a password") from None
    except (ValueError, UnsupportedAlgorithm) as e:
        raise BadKey(f"expected a private key in PKCS#8 PEM: {e}") from None
    if not isinstance(key, Ed25519PrivateKey):
        found = type(key).__name__.removesuffix("PrivateKey")
        raise BadKey(
            f"expected an Ed25519 key, found {found}; `openssl genpkey -algorithm ed25519` makes one"
        )
    return key


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _base58(raw: bytes) -> str:
    """Bitcoin's alphabet; each leading zero byte is a leading `1`."""
    n = int.from_bytes(raw, "big")
    digits = ""
    while n:
        n, digit = divmod(n, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits
