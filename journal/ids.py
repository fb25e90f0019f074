"""Ids, byte-compatible with the official server, and how those of keyed requests are derived.

Pure: time and random bytes come in. Rules: service protocol 4, ingress 15.
"""

import base64
import hashlib
import struct
from collections.abc import Iterator
from functools import lru_cache

import xxhash

from perdure.journal.errors import BadId

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = {c: i for i, c in enumerate(_ALPHABET)}
_U64_WIDTH, _U128_WIDTH = 11, 22
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # two digits at a time
_PART = 3844**3  # six digits
_BUCKETS = 512  # per service, for requests that no key ties to a place

SLOT_COUNT = 1 << 16
KNOWN_PREFIXES = frozenset({"inv", "dp", "sub", "snap", "mut", "vq", "sign", "prom"})


def _encode62(raw: bytes, width: int) -> str:
    """Base62 of the byte-reversed integer, most significant digit first, padded to ``width``."""
    n = int.from_bytes(raw, "little")
    text = ""
    while n:
        n, part = divmod(n, _PART)  # small numbers divide faster
        part, pair1 = divmod(part, 3844)
        pair3, pair2 = divmod(part, 3844)
        text = _PAIRS[pair3] + _PAIRS[pair2] + _PAIRS[pair1] + text
    return text.rjust(width, "0")[-width:]


def _decode62(text: str, size_bytes: int) -> bytes:
    n = 0
    for c in text:
        digit = _DIGITS.get(c)
        if digit is None:
            raise BadId("base62 decode error")
        n = n * 62 + digit
    if n >> (8 * size_bytes):
        raise BadId("base62 decode error")
    return n.to_bytes(size_bytes, "little")


@lru_cache(maxsize=16_384)
def format_invocation_id(raw: bytes) -> str:
    """24 raw bytes (partition key, uuid; both big-endian) to ``inv_1`` and 33 digits."""
    return "inv_1" + _encode_partition(raw[:8]) + _encode62(raw[8:], _U128_WIDTH)


@lru_cache(maxsize=16_384)
def _encode_partition(raw: bytes) -> str:
    return _encode62(raw, _U64_WIDTH)


def parse_invocation_id(text: str) -> bytes:
    """The 24 raw bytes. Raises BadId with the reason that clients know from the official server."""
    payload = _payload(text, "inv")
    if len(payload) != _U64_WIDTH + _U128_WIDTH:
        raise BadId("bad length")
    return _decode62(payload[:_U64_WIDTH], 8) + _decode62(payload[_U64_WIDTH:], 16)


def format_deployment_id(ulid: bytes) -> str:
    return "dp_1" + _encode62(ulid, _U128_WIDTH)


def _payload(text: str, prefix: str) -> str:
    kind, underscore, rest = text.partition("_")
    if not underscore or not rest:
        raise BadId("bad format")
    if kind != prefix:
        raise BadId(
            "id doesn't match the expected type" if kind in KNOWN_PREFIXES else "bad format"
        )
    if rest[0] != "1":
        raise BadId("unrecognized codec version")
    return rest[1:]


def format_awakeable_id(invocation: bytes, signal: int) -> str:
    """``invocation``: 24 raw bytes; ``signal``: the index from 17 up."""
    raw = invocation + struct.pack(">I", signal)
    return "sign_1" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parse_awakeable_id(text: str) -> tuple[bytes, int]:
    """Raw invocation id and signal index; padding is tolerated. Raises BadId."""
    if not text.startswith("sign_"):
        _payload(text, "prom")  # the spelling of old protocols: only its shape is checked
        raise BadId("bad length")
    payload = _payload(text, "sign").rstrip("=")
    try:
        raw = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise BadId("id doesn't match the expected type") from None
    if len(raw) != 28:
        raise BadId("id doesn't match the expected type")
    return raw[:24], struct.unpack(">I", raw[24:])[0]


# ---- where a request lives, and what it is called -----------------------------------------------


def _hash(*parts: str) -> int:
    return xxhash.xxh3_64_intdigest(b"".join(p.encode() + b"\xff" for p in parts))


def key_partition(key: str, scope: str | None = None) -> int:
    """The partition key of an object or workflow key, or of everything in a scope."""
    return _hash(key if scope is None else scope)


def service_partition(service: str, bucket: int) -> int:
    """The partition key of a request to a plain service; ``bucket``: any number, taken modulo 512."""
    head = service.encode() + b"\xffunscoped/service\xff"
    return xxhash.xxh3_64_intdigest(head + struct.pack("<Q", bucket % _BUCKETS))


def idempotency_bucket(idempotency_key: str) -> int:
    return _hash(idempotency_key)


def slot_of(partition_key: int) -> int:
    """The slot, 0 to 65,535, of everything with this partition key: its upper 16 bits."""
    return partition_key >> 48


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(",".join(parts).encode()).digest()[:16]


def _scoped(scope: str | None) -> tuple[str, ...]:
    return () if scope is None else (scope,)


def workflow_id(service: str, key: str, scope: str | None = None) -> bytes:
    """The raw id of a workflow's run: one for ever."""
    uuid = _digest("wf", *_scoped(scope), service, key)
    return struct.pack(">Q", key_partition(key, scope)) + uuid


def idempotent_id(
    service: str, key: str | None, handler: str, idempotency_key: str, scope: str | None = None
) -> bytes:
    """The raw id that every request with this idempotency key gets."""
    parts = (service, *(() if key is None else (key,)), handler, idempotency_key)
    if key is None and scope is None:
        partition = service_partition(service, idempotency_bucket(idempotency_key))
    else:
        partition = key_partition(key or "", scope)
    return struct.pack(">Q", partition) + _digest("ik", *_scoped(scope), *parts)


def schedule_id(name: str) -> bytes:
    """The raw id of a schedule, 24 bytes as an invocation's, so that timers can carry it."""
    return struct.pack(">Q", key_partition(name)) + _digest("schedule", name)


def fresh_id(
    service: str, key: str | None, now_ms: int, entropy: bytes, scope: str | None = None
) -> bytes:
    """The raw id of any other request: a ULID. ``entropy``: 12 random bytes."""
    if key is None and scope is None:
        partition = service_partition(service, int.from_bytes(entropy[10:12], "big"))
    else:
        partition = key_partition(key or "", scope)
    return struct.pack(">Q", partition) + now_ms.to_bytes(6, "big") + entropy[:10]


def iter_siblings(service: str, id: bytes) -> Iterator[bytes]:
    """Ids for the same request to a plain service, in each of the places where one may live."""
    first = int.from_bytes(id[-2:], "big")
    for bucket in range(first, first + _BUCKETS):
        yield struct.pack(">Q", service_partition(service, bucket)) + id[8:]


def sibling_id(id: bytes, now_ms: int, entropy: bytes) -> bytes:
    """The raw id of a new invocation where another one is. ``entropy``: 10 random bytes."""
    return id[:8] + now_ms.to_bytes(6, "big") + entropy


def format_subscription_id(ulid: bytes) -> str:
    return "sub_1" + _encode62(ulid, _U128_WIDTH)


def parse_subscription_id(text: str) -> bytes:
    """The 16 raw bytes. Raises BadId."""
    payload = _payload(text, "sub")
    if len(payload) != _U128_WIDTH:
        raise BadId("bad length")
    return _decode62(payload, 16)


def parse_vqueue_id(text: str) -> bytes:
    """The 24 raw bytes of a virtual queue's id: partition key, then what tells it apart. Raises BadId."""
    payload = _payload(text, "vq")
    if len(payload) != _U64_WIDTH + _U128_WIDTH:
        raise BadId("bad length")
    return _decode62(payload[:_U64_WIDTH], 8) + _decode62(payload[_U64_WIDTH:], 16)
