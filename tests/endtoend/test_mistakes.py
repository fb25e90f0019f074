"""Mistakes of a programmer reach the caller at once, with what to change; none is retried in silence."""

import httpx
import pytest

AT_ONCE_S = 20.0  # an endless retry would take for ever


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("Mistakes/forgets_await_of_run", "await"),
        ("Mistakes/forgets_await_of_call", "await"),
        ("Mistakes/adds_to_a_future", "await"),
        ("Mistakes/returns_a_set", "set"),
        ("Mistakes/sets_what_is_no_json", "object"),
        ("Mistakes/calls_nobody", "Nobody"),
        ("Mistakes/calls_a_missing_handler", "substract"),
        ("Mistakes/sends_to_nobody", "Nobody"),
        ("Mistakes/passes_a_wrong_argument", "int"),
        ("Mistakes/passes_what_is_no_handler", "handler"),
        ("Mistakes/resolves_a_malformed_awakeable", "nonsense"),
        ("Mistakes/sleeps_a_number", "timedelta"),
        ("Cell/a/writes_in_a_shared_handler", "make it exclusive"),
    ],
)
def test_a_mistake_is_answered_at_once_and_named(
    ingress: httpx.Client, target: str, told: str
) -> None:
    answer = ingress.post(f"/{target}", timeout=AT_ONCE_S)
    assert answer.status_code >= 400
    assert answer.headers["x-restate-error-source"] == "invocation"
    message = answer.json()["message"]
    assert told in message, message
    assert "Traceback" not in message
    assert ingress.post("/Greeter/greet", json="Ada").json() == "Hello Ada"
