"""Errors to status and body: the one table that ingress and admin share. Pure.

Key order of the JSON is part of the contract: code, message, stacktrace, metadata, source.
Rules: ingress 13, admin 2.
"""

from typing import Final

import msgspec

from perdure.journal.entries import Failure
from perdure.journal.errors import (
    BadId,
    Overloaded,
    PerdureError,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFormat,
)

INGRESS: Final = "ingress"
INVOCATION: Final = "invocation"

_LOWEST_STATUS, _HIGHEST_STATUS = 200, 999
_RETRY_SOON_S = 1
_RETRY_LATER_S = 30  # an operator has to act first

# Exception to status and Retry-After; the first line that fits counts.
_TABLE: Final[tuple[tuple[type[PerdureError], int, int | None], ...]] = (
    (BadId, 400, None),
    (Overloaded, 503, _RETRY_SOON_S),  # its own ``retry_after_s`` wins
    (StoreBusy, 503, _RETRY_LATER_S),
    (StoreDamaged, 503, _RETRY_LATER_S),
    (StoreFormat, 503, _RETRY_LATER_S),
    (StoreError, 503, _RETRY_SOON_S),
    (PerdureError, 500, None),
)


class Refusal(msgspec.Struct, frozen=True):
    """A request that was not carried out, and what the caller is told."""

    status: int
    message: str
    source: str = INGRESS
    retry_after_s: int | None = None


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    stacktrace: str = ""
    metadata: dict[str, str] = {}
    source: str = ""


_encode = msgspec.json.Encoder().encode

NOT_FOUND: Final = Refusal(404, "not found")
METHOD_NOT_ALLOWED: Final = Refusal(405, "method not allowed")
NOT_READY: Final = Refusal(470, "the invocation exists but has not completed yet")
UNKNOWN_INVOCATION: Final = Refusal(404, "invocation not found")
ATTACH_UNKNOWN: Final = Refusal(404, "not found", INVOCATION)
TOO_MANY: Final = Refusal(
    429, "too many requests, the ingress is overloaded. Retry later.", retry_after_s=1
)
TOO_LARGE: Final = Refusal(413, "cannot read body: LengthLimitError")


def refusal_of(error: PerdureError) -> Refusal:
    """What a caller is told when the runtime raised ``error``."""
    for kind, status, retry_after_s in _TABLE:
        if isinstance(error, kind):
            if isinstance(error, Overloaded):
                retry_after_s = error.retry_after_s
            return Refusal(status, str(error), retry_after_s=retry_after_s)
    raise AssertionError(error)  # the last line of the table fits everything


def refusal_body(refusal: Refusal) -> bytes:
    """The message may quote bytes of a request that are no text."""
    message = refusal.message.encode("utf-8", "backslashreplace").decode()
    return _encode(ErrorBody(refusal.status, message, source=refusal.source))


def failure_body(failure: Failure) -> bytes:
    """The body of an invocation that ended with ``failure``; its code stays as it is."""
    return _encode(
        ErrorBody(
            failure.code, failure.message, failure.stacktrace, failure.metadata, source=INVOCATION
        )
    )


def failure_status(code: int) -> int:
    """The HTTP status of a failure code: itself where it can be one, else 500.

    1xx would be read as an interim response that never ends, so it is 500 as well.
    """
    return code if _LOWEST_STATUS <= code <= _HIGHEST_STATUS else 500


class AdminError(msgspec.Struct, frozen=True):
    """Both keys are always there (admin 14.9)."""

    message: str
    restate_code: str | None = None


def admin_body(message: str, restate_code: str | None = None) -> bytes:
    return _encode(AdminError(message, restate_code))
