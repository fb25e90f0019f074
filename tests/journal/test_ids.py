"""Ids, byte for byte as the official server writes them: service protocol 4, ingress 15."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal import ids
from perdure.journal.errors import BadId

RAW = bytes(range(1, 25))
TEXT = "inv_10GJfy0GGPIZ0JsmI2YhihwhbLzDth0Jvz"
AWAKEABLE = "sign_1AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYAAAAEQ"


def test_an_invocation_id_has_the_official_text() -> None:
    assert ids.format_invocation_id(RAW) == TEXT
    assert ids.parse_invocation_id(TEXT) == RAW


def test_a_deployment_id_has_the_official_text() -> None:
    ulid = bytes.fromhex("019441f1be4f151534e91b9a2173692d")
    assert ids.format_deployment_id(ulid) == "dp_11nGQpCRmau6ypL82KH2TnP"


def test_an_awakeable_id_is_the_invocation_and_the_signal_in_base64() -> None:
    assert ids.format_awakeable_id(RAW, 17) == AWAKEABLE
    assert ids.parse_awakeable_id(AWAKEABLE) == (RAW, 17)


def test_padding_of_an_awakeable_id_is_tolerated() -> None:
    assert ids.parse_awakeable_id(AWAKEABLE + "==") == (RAW, 17)


@given(st.binary(min_size=24, max_size=24))
def test_every_invocation_id_comes_back_from_its_text(raw: bytes) -> None:
    text = ids.format_invocation_id(raw)
    assert len(text) == 38
    assert ids.parse_invocation_id(text) == raw


@given(st.binary(min_size=24, max_size=24), st.integers(0, 2**32 - 1))
def test_every_awakeable_id_comes_back_from_its_text(raw: bytes, signal: int) -> None:
    text = ids.format_awakeable_id(raw, signal)
    assert len(text) == 44
    assert ids.parse_awakeable_id(text) == (raw, signal)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad format"),
        ("bad", "bad format"),
        ("inv_", "bad format"),
        ("foo_1abc", "bad format"),
        ("dp_11nGQpCRmau6ypL82KH2TnP", "id doesn't match the expected type"),
        ("inv_2" + TEXT[5:], "unrecognized codec version"),
        ("inv_1abc", "bad length"),
        (TEXT + "0", "bad length"),
        (TEXT[:-1] + "-", "base62 decode error"),
        ("inv_1" + "Z" * 33, "base62 decode error"),
    ],
)
def test_a_bad_invocation_id_is_refused_with_the_official_reason(text: str, reason: str) -> None:
    with pytest.raises(BadId, match=f"^{reason}$"):
        ids.parse_invocation_id(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bad", "bad format"),
        ("prom_1abc", "bad length"),
        ("sign_2" + AWAKEABLE[6:], "unrecognized codec version"),
        ("sign_1abc", "id doesn't match the expected type"),
        (AWAKEABLE[:-4], "id doesn't match the expected type"),
        ("sign_1" + "é" * 38, "id doesn't match the expected type"),
        (TEXT, "id doesn't match the expected type"),
    ],
)
def test_a_bad_awakeable_id_is_refused_with_the_official_reason(text: str, reason: str) -> None:
    with pytest.raises(BadId, match=f"^{reason}$"):
        ids.parse_awakeable_id(text)


def test_derived_ids_are_those_of_the_official_server() -> None:
    text = ids.format_invocation_id
    assert text(ids.workflow_id("Flow", "w1")) == "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"
    assert text(ids.workflow_id("Flow", "w1", "s1")) == "inv_1a1mlWikgvPI02lyupu2Fm0rRuDUEAfcEs"
    assert (
        text(ids.idempotent_id("Counter", "k1", "add", "k1"))
        == "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"
    )
    assert (
        text(ids.idempotent_id("Greeter", None, "greetStr", "k1"))
        == "inv_16vnR5MzgZWy7hSaTPNhFvGvO91qMVSyTn"
    )


def test_the_digests_of_derived_ids_are_the_published_ones() -> None:
    workflow = ids.workflow_id("MyWf", "key1")[8:]
    assert workflow.hex() == "e75febb65932cff4de8c5b6e3ecfc721"
    idempotent = ids.idempotent_id("Svc", None, "handler", "idem")[8:]
    assert idempotent.hex() == "79bec1cc443cf15e6bb893ca5c29ea40"
    assert workflow == hashlib.sha256(b"wf,MyWf,key1").digest()[:16]


def test_an_idempotency_key_is_bound_to_service_key_handler_and_scope() -> None:
    variants = [
        ids.idempotent_id("A", "k", "h", "i"),
        ids.idempotent_id("B", "k", "h", "i"),
        ids.idempotent_id("A", "l", "h", "i"),
        ids.idempotent_id("A", "k", "g", "i"),
        ids.idempotent_id("A", "k", "h", "j"),
        ids.idempotent_id("A", "k", "h", "i", "s"),
        ids.idempotent_id("A", None, "h", "i"),
        ids.idempotent_id("A", "k", "h", ""),
    ]
    assert len(set(variants)) == len(variants)


def test_a_fresh_id_lies_with_its_key_and_begins_with_its_time() -> None:
    raw = ids.fresh_id("Counter", "alice", 0x0123456789AB, bytes(range(12)))
    assert raw[:8] == ids.key_partition("alice").to_bytes(8, "big")
    assert raw[8:14].hex() == "0123456789ab"
    assert raw[14:] == bytes(range(10))


def test_requests_to_a_plain_service_spread_over_512_places() -> None:
    places = {
        ids.fresh_id("Greeter", None, 0, bytes(10) + bucket.to_bytes(2, "big"))[:8]
        for bucket in range(2048)
    }
    assert len(places) == 512


def test_the_slot_is_the_upper_16_bits_of_the_partition_key() -> None:
    assert ids.slot_of(0xABCD_0000_0000_0001) == 0xABCD
    assert ids.SLOT_COUNT == 65_536
