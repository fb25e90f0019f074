"""Input and output rules of ingress 6, as values."""

import pytest

from perdure.gateway.content import input_error, output_content_type
from perdure.journal.schema import InputRule, OutputRule

JSON, EMPTY, ANY = (
    InputRule("application/json", body_required=True),
    InputRule(None),
    InputRule("*/*"),
)


@pytest.mark.parametrize(
    ("rules", "content_type", "body"),
    [
        ((EMPTY, JSON), None, b""),
        ((EMPTY, JSON), "application/json", b"1"),
        ((EMPTY, JSON), "application/json; charset=utf-8", b"1"),
        ((EMPTY, JSON), "application/json", b"{bad"),
        ((EMPTY, ANY), "x/y", b""),
        ((InputRule("image/*"),), "image/png", b"1"),
        ((InputRule("application/json"),), "application/json", b""),
    ],
)
def test_a_request_passes_when_any_rule_does(
    rules: tuple[InputRule, ...], content_type: str | None, body: bytes
) -> None:
    assert input_error(rules, content_type, body) is None


@pytest.mark.parametrize(
    ("rules", "content_type", "body", "reason"),
    [
        ((EMPTY,), "application/json", b"", "Expected body and content-type to be empty, but wasn't with "
         "content-type 'Some(\"application/json\")'"),
        ((EMPTY,), None, b"1", "Expected body and content-type to be empty, but wasn't with "
         "content-type 'None'"),
        ((EMPTY, JSON), None, b"1", "Empty content-type"),
        ((EMPTY, JSON), "text/plain", b"1", "Content-type 'text/plain' does not match 'application/json'"),
        ((JSON,), "APPLICATION/JSON", b"1",
         "Content-type 'APPLICATION/JSON' does not match 'application/json'"),
        ((JSON,), "application/vnd.api+json", b"1",
         "Content-type 'application/vnd.api+json' does not match 'application/json'"),
        ((EMPTY, JSON), "application/json", b"", "Empty body not allowed"),
        ((InputRule("image/*"),), "imagery/png", b"1", "Content-type 'imagery/png' does not match 'image/*'"),
    ],
)  # fmt: skip
def test_the_reason_is_that_of_the_last_rule(
    rules: tuple[InputRule, ...], content_type: str | None, body: bytes, reason: str
) -> None:
    assert input_error(rules, content_type, body) == "input validation error: " + reason


@pytest.mark.parametrize(
    ("rule", "body", "content_type"),
    [
        (OutputRule(), b"1", "application/json"),
        (OutputRule(), b"", None),
        (OutputRule("text/plain", set_if_empty=True), b"", "text/plain"),
        (OutputRule(None), b"1", None),
    ],
)
def test_the_output_rule_gives_the_content_type(
    rule: OutputRule, body: bytes, content_type: str | None
) -> None:
    assert output_content_type(rule, body) == content_type
