"""Checks of what context methods are given, and what they make of it; each refusal says what to pass.

Nothing here touches a journal.
"""

import re
from datetime import timedelta
from typing import Any

from perdure.journal import ids
from perdure.journal.errors import BadId, UsageError
from perdure.serde import BytesSerde, DefaultSerde, Serde

_SCOPE = re.compile(r"[a-zA-Z0-9_.-]{1,36}\Z")
_LIMIT_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,36}(/[a-zA-Z0-9_.-]{1,36})?\Z")
_MILLISECOND = timedelta(milliseconds=1)


BYTES = BytesSerde()


def pick_serde(serde: Serde[Any], type_hint: Any) -> Serde[Any]:
    """``serde`` as given, or the one for the hint; None: bytes as they are."""
    if serde is None:
        return BYTES
    if type_hint is None or type(serde) is not DefaultSerde:
        return serde
    return serde.with_maybe_type(type_hint)


def serde_of_value(serde: Serde[Any], value: Any) -> Serde[Any]:
    """Bytes are written as they are unless a serde says otherwise."""
    return pick_serde(serde, bytes) if isinstance(value, bytes | bytearray) else serde


def need_text(value: object, what: str) -> None:
    """Raises UsageError unless ``value`` is a str that is not empty."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{what} is a str of at least one character, not {value!r}")


def need_invocation_id(value: object) -> None:
    """Raises UsageError unless ``value`` is an invocation id."""
    if not isinstance(value, str):
        raise UsageError(
            f"an invocation id is a str, not {type(value).__qualname__};"
            " `await handle.invocation_id()` gives it"
        )
    try:
        ids.parse_invocation_id(value)
    except BadId as e:
        raise UsageError(f"{value!r} is not an invocation id: {e}") from e


def millis(span: object, what: str) -> int:
    """A timedelta of at least zero in milliseconds. Raises UsageError for anything else."""
    if not isinstance(span, timedelta):
        raise UsageError(
            f"{what} must be a timedelta, such as timedelta(seconds=5), not {type(span).__qualname__}"
        )
    if span < timedelta(0):
        raise UsageError(f"{what} must not be negative, got {span}")
    return span // _MILLISECOND


# ---- extras of a call ---------------------------------------------------------------------------


class Extras:
    """What a call may carry besides its target and argument."""

    __slots__ = ("headers", "idempotency_key", "limit_key", "scope")

    def __init__(
        self,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> None:
        if idempotency_key is not None and (
            not isinstance(idempotency_key, str) or not idempotency_key
        ):
            raise UsageError(
                f"an idempotency key is a str of at least one character, not {idempotency_key!r}"
            )
        self.idempotency_key = idempotency_key
        self.headers = _headers(headers) if headers else ()
        if scope is not None:
            check_scope(scope)
        if limit_key is not None:
            _check_limit_key(limit_key, scope)
        self.scope = scope
        self.limit_key = limit_key


def _headers(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    pairs = tuple(headers.items())
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"headers map str to str, got {name!r}: {value!r}")
    return pairs


def check_scope(scope: object) -> None:
    """Raises UsageError for what no scope can be named."""
    if not isinstance(scope, str) or not _SCOPE.match(scope):
        raise UsageError(f"a scope is 1 to 36 characters out of [a-zA-Z0-9_.-], not {scope!r}")


def _check_limit_key(limit_key: object, scope: str | None) -> None:
    if scope is None:
        raise UsageError("a limit key works only within a scope: give scope too")
    if not isinstance(limit_key, str) or not _LIMIT_KEY.match(limit_key):
        raise UsageError(
            "a limit key is one or two parts of 1 to 36 characters out of [a-zA-Z0-9_.-],"
            f" parted by '/', not {limit_key!r}"
        )
