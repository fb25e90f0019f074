"""Request identity: the specification's vector, and what a verifier of the official kind accepts."""

import base64

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perdure.actors.remote.identity import BadKey, Signer

PEM = (
    b"-----BEGIN PRIVATE KEY-----\n"
    b"MC4CAQAwBQYDK2VwBCIEIPe++4ZTPQDF81otpoU/mOGHC2vOAVp9WbiCblvn3nXO\n"
    b"-----END PRIVATE KEY-----\n"
)
KEY_ID = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
NOW_S = 1_800_000_000


def claims(token: str) -> dict[str, object]:
    """Verified with PyJWT; only the clock is left out."""
    public = serialization.load_pem_private_key(PEM, None).public_key()
    assert jwt.get_unverified_header(token) == {"typ": "JWT", "alg": "EdDSA", "kid": KEY_ID}
    checks = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    found: dict[str, object] = jwt.decode(token, public, ["EdDSA"], options=checks)  # type: ignore[arg-type]
    return found


def test_the_key_id_is_that_of_the_specification() -> None:
    assert Signer(PEM).key_id == KEY_ID


def test_a_request_says_what_it_is_for_and_when_it_was_made() -> None:
    scheme, token = Signer(PEM).headers("/invoke/Counter/add", "ada", NOW_S)
    assert scheme == ("x-restate-signature-scheme", "v1")
    assert token[0] == "x-restate-jwt-v1"
    assert claims(token[1]) == {
        "aud": "/invoke/Counter/add",
        "exp": NOW_S + 60,
        "iat": NOW_S,
        "nbf": NOW_S - 60,
        "sub": "ada",
    }


def test_a_request_without_a_key_has_no_subject_and_an_empty_key_is_one() -> None:
    signer = Signer(PEM)
    assert "sub" not in claims(signer.headers("/discover", None, NOW_S)[1][1])
    assert claims(signer.headers("/invoke/A/b", "", NOW_S)[1][1])["sub"] == ""


def test_any_object_key_can_be_signed() -> None:
    key = 'a"b\\c\nключ\x00'
    assert claims(Signer(PEM).headers("/invoke/A/b", key, NOW_S)[1][1])["sub"] == key


def test_a_public_key_with_leading_zeros_keeps_them() -> None:
    from perdure.actors.remote.identity import _base58

    assert _base58(b"\0\0\x01") == "112"
    assert _base58(bytes.fromhex("000102")) == "15T"


def pem_of(key: object) -> bytes:
    pem: bytes = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (b"", "expected one PEM block with a private key, found none"),
        (b"secret", "found none"),
        (PEM + PEM, "found 2"),
        (PEM.replace(b"MC4C", b"AAAA"), "expected a private key in PKCS#8 PEM"),
        (pem_of(rsa.generate_private_key(65537, 2048)), "expected an Ed25519 key, found RSA"),
        (
            Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"x"),
            ),
            "encrypted",
        ),
    ],
)
def test_another_file_is_refused_with_what_it_is(pem: bytes, reason: str) -> None:
    with pytest.raises(BadKey, match=reason.replace("(", "\\(")):
        Signer(pem)


def test_no_error_repeats_the_key() -> None:
    body = base64.b64encode(b"top secret").decode()
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n".encode()
    with pytest.raises(BadKey) as caught:
        Signer(pem)
    assert body not in str(caught.value)
