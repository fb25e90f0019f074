"""Signed requests: which are let in, which are answered with 401."""

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

import perdure
from perdure.identity import IdentityVerifier, Unauthorized, decode_base58, raw_key
from perdure.journal.errors import UsageError
from tests.sdk.endpoint.peer import Peer

# Vector of service protocol 2.3.
PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPe++4ZTPQDF81otpoU/mOGHC2vOAVp9WbiCblvn3nXO
-----END PRIVATE KEY-----
"""
KEY = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
OTHER_KEY = "publickeyv1_ChjENKeMvCtRnqG2mrBK1HmPKufgFUc98K8B3ononQvp"
PATH = "/invoke/S/h"


def private_key() -> Ed25519PrivateKey:
    key = load_pem_private_key(PEM.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"aud": PATH, "iat": now, "nbf": now - 60, "exp": now + 60, **changes}
    return {name: value for name, value in given.items() if value is not None}


def signed(payload: dict[str, Any], key: Any = None, kid: str | None = KEY) -> dict[str, str]:
    headers = {"kid": kid} if kid is not None else {}
    token = jwt.encode(payload, key or private_key(), algorithm="EdDSA", headers=headers)
    return {"x-restate-signature-scheme": "v1", "x-restate-jwt-v1": token}


def test_the_vector_of_the_protocol() -> None:
    public = private_key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert raw_key(KEY) == public


def test_a_signed_request_is_let_in() -> None:
    IdentityVerifier([OTHER_KEY, KEY]).verify(signed(claims(sub="some key")), PATH)


def unsigned_token() -> dict[str, str]:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': 'none', 'typ': 'JWT', 'kid': KEY})}.{part(claims())}."
    return {"x-restate-signature-scheme": "v1", "x-restate-jwt-v1": token}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-restate-signature-scheme": "unsigned"},
        {"x-restate-signature-scheme": "v2", "x-restate-jwt-v1": "x"},
        {"x-restate-signature-scheme": "v1"},
        {"x-restate-signature-scheme": "v1", "x-restate-jwt-v1": "not a token"},
        unsigned_token(),
        signed(claims(), key=Ed25519PrivateKey.generate()),
        signed(claims(), kid=OTHER_KEY),
        signed(claims(), kid="publickeyv1_unknown"),
        signed(claims(), kid=None),
        signed(claims(aud="/invoke/S/other")),
        signed(claims(aud="/prefix/invoke/S/h")),
        signed(claims(exp=int(time.time()) - 1)),
        signed(claims(nbf=int(time.time()) + 30)),
        signed(claims(aud=None)),
        signed(claims(exp=None)),
        signed(claims(iat=None)),
        signed(claims(nbf=None)),
    ],
)
def test_anything_else_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        IdentityVerifier([KEY]).verify(headers, PATH)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("k", "begins with 'publickeyv1_'"),
        ("publickeyv1_0OIl", "'0' is no digit"),
        ("publickeyv1_AfQwmwfg", "bytes, not 32"),
        ("publickeyv1_", "holds 0 bytes"),
    ],
)
def test_a_text_that_is_no_key_is_told(key: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        IdentityVerifier([key])


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", b""),
        ("1", b"\0"),
        ("11", b"\0\0"),
        ("2", b"\1"),
        ("5Q", b"\xff"),
        ("1112", b"\0\0\0\1"),
    ],
)
def test_base58(text: str, raw: bytes) -> None:
    assert decode_base58(text) == raw


# ---- at the endpoint ----------------------------------------------------------------------------

service = perdure.Service("S")


@service.handler()
async def h(ctx: perdure.Context) -> None: ...


def status(path: str, headers: dict[str, str], method: str = "POST") -> int | None:
    async def scenario() -> int | None:
        app = perdure.app([service], identity_keys=[KEY])
        peer = Peer(app, path, method=method, headers=headers).open()
        peer.end()
        await peer.done()
        assert peer.is_over
        return peer.status

    return asyncio.run(scenario())


def test_an_endpoint_with_keys_answers_only_signed_requests() -> None:
    type = {"content-type": "application/vnd.restate.invocation.v6"}
    assert status(PATH, type) == 401
    assert status(f"/mount{PATH}", {**signed(claims()), **type}) == 200
    assert status("/mount/discover", signed(claims(aud="/discover")), "GET") == 200
    assert status("/mount/discover", signed(claims()), "GET") == 401
    assert status("/elsewhere", {}) == 401
