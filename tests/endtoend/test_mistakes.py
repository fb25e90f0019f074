"""Mistakes of a programmer reach the caller at once, with what to change; none is retried in silence."""

import httpx
import pytest

AT_ONCE_S = 20.0  # an endless retry would take for ever


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("forgets_await_of_run", "await"),
        ("forgets_await_of_call", "await"),
        ("adds_to_a_future", "await"),
        ("returns_a_set", "set"),
        ("sets_what_is_no_json", "object"),
        ("calls_nobody", "Nobody"),
        ("calls_a_missing_handler", "substract"),
        ("calls_an_object_without_a_key", "key"),
        ("sends_to_nobody", "Nobody"),
        ("passes_a_wrong_argument", "int"),
        ("passes_what_is_no_handler", "handler"),
        ("resolves_a_malformed_awakeable", "nonsense"),
        ("sleeps_a_number", "timedelta"),
    ],
)
def test_a_mistake_is_answered_at_once_and_named(
    ingress: httpx.Client, handler: str, told: str
) -> None:
    answer = ingress.post(f"/Mistakes/{handler}", timeout=AT_ONCE_S)
    assert answer.status_code >= 400
    assert answer.headers["x-restate-error-source"] == "invocation"
    message = answer.json()["message"]
    assert told in message, message
    assert "Traceback" not in message
    assert ingress.post("/Greeter/greet", json="Ada").json() == "Hello Ada"
