"""What users raise, as it is stored: by values, from the harmless to the hostile."""

from datetime import timedelta
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
import pytest

from perdure.failures import failed, failure_of, storable
from perdure.journal.attempt import Failed
from perdure.journal.entries import Entry, Failure, Output, decode_segment, encode
from perdure.journal.errors import RetryableError, TerminalError

LIMIT = 64 << 10  # characters of a text


class Code(IntEnum):
    GONE = 404


def terminal(message: Any = "no", code: Any = 500, metadata: Any = None) -> Failure:
    """As user code may do it: the types are not kept."""
    return failure_of(TerminalError(message, code, metadata))


def stored(failure: Failure) -> list[Entry]:
    """Through the journal and back."""
    return list(decode_segment(encode((Output(failure),))))


def test_a_plain_failure_is_kept_as_it_is() -> None:
    found = terminal("out of stock", 409, {"item": "7"})
    assert found == Failure(409, "out of stock", {"item": "7"})
    assert stored(found) == [Output(found)]


@pytest.mark.parametrize("code", [0, 1, 404, 999, 0xFFFF])
def test_codes_of_16_bits_are_kept(code: int) -> None:
    assert terminal(code=code).code == code


@pytest.mark.parametrize("code", ["404", HTTPStatus.NOT_FOUND, Code.GONE])
def test_what_reads_as_a_code_is_that_number(code: Any) -> None:
    found = terminal(code=code)
    assert found == Failure(404, "no")
    assert type(found.code) is int


@pytest.mark.parametrize(
    "code",
    [-1, 0x10000, 10**30, "", "x", "-1", "٤٠٤", "9" * 10_000, 404.0, None, [404], object()],
    ids=lambda code: repr(code)[:12],
)
def test_any_other_code_is_500(code: Any) -> None:
    assert terminal(code=code) == Failure(500, "no")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("", ""),
        ("naïve 🙂", "naïve 🙂"),
        (ValueError("x"), "x"),
        (None, "None"),
        (b"x", "b'x'"),
        (7, "7"),
        ("bad file \udcff", "bad file \\udcff"),
        (ValueError("\ud800é"), "\\ud800é"),
    ],
)
def test_any_message_becomes_text_that_utf8_can_hold(message: Any, text: str) -> None:
    assert storable(message) == text
    found = terminal(message)
    assert found == Failure(500, text)
    assert stored(found) == [Output(found)]


def test_names_and_values_of_metadata_become_text_too() -> None:
    found = terminal(metadata={"\udcff": ValueError("x"), 7: None})
    assert found.metadata == {"\\udcff": "x", "7": "None"}
    assert stored(found) == [Output(found)]


@pytest.mark.parametrize("metadata", [None, {}, [], 7, "text", [("a", "b")]])
def test_what_is_no_mapping_is_no_metadata(metadata: Any) -> None:
    assert terminal(metadata=metadata) == Failure(500, "no")


def test_metadata_is_kept_as_far_as_there_is_room() -> None:
    pairs = {f"{n:04}": "x" * 60_000 for n in range(1_500)}
    found = terminal(metadata=pairs).metadata
    assert list(found.items()) == list(pairs.items())[: (1 << 20) // 60_004]


def test_a_text_at_the_limit_is_kept_and_a_longer_one_loses_its_middle() -> None:
    assert storable("x" * LIMIT) == "x" * LIMIT
    half = LIMIT // 2
    cut = storable("a" * half + "?" * 5 + "z" * half)
    assert cut == "a" * half + "\n[... 5 characters ...]\n" + "z" * half


def test_a_huge_message_does_not_make_a_huge_failure() -> None:
    found = terminal("é" * (21 << 20), metadata={"k" * LIMIT * 2: "v" * LIMIT * 2})
    assert len(msgspec.msgpack.encode(found)) < 5 * LIMIT
    assert found.message.startswith("é")
    assert found.message.endswith("é")


def test_a_failed_attempt_tells_code_message_delay_and_trace() -> None:
    try:
        raise RetryableError("later", 503, timedelta(seconds=2))
    except RetryableError as error:
        found = failed(error.status_code, error, error.message, 2000)
    assert found.code == 503
    assert found.message == "later"
    assert found.next_retry_delay_ms == 2000
    assert "test_failures.py" in found.stacktrace
    assert found.stacktrace.rstrip().endswith("later")


def test_a_failed_attempt_holds_nothing_that_a_journal_can_not() -> None:
    error = ValueError("\udcff" * (1 << 20))
    found = failed("500x", error, error, None)
    assert found.code == 500
    assert len(found.message) < 7 * LIMIT
    found.message.encode()
    found.stacktrace.encode()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Failed) == found


class Unspeakable(Exception):
    """Neither ``str`` nor ``repr`` of it ends well."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")

    __repr__ = __str__


def test_an_error_that_can_not_be_shown_is_named_by_its_type() -> None:
    assert storable(Unspeakable()) == "<Unspeakable that can't be shown: RuntimeError>"
    found = failed(500, Unspeakable(), Unspeakable(), None)
    assert "Unspeakable" in found.stacktrace


def test_a_truth_value_is_a_number_and_can_be_read_again() -> None:
    found = terminal(code=True)
    assert type(found.code) is int
    assert stored(found) == [Output(found)]


class Loud(str):
    """A text of a type that the encoder does not know."""


def test_a_kind_of_str_becomes_a_plain_one() -> None:
    assert type(storable(Loud("x"))) is str
