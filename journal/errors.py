"""The error tree, split by who is to blame. Codes are what the ingress answers and the journal stores.

Nothing here does I/O. A message says what was expected, what was found, where, and what to do next.
Pages with cause and remedy for codes that users meet: docs/errors/.
"""

from datetime import timedelta


class PerdureError(Exception):
    """Base of every error of Perdure that a caller may want to catch."""

    code = 500


# ---- raised by handlers -------------------------------------------------------------------------


class TerminalError(Exception):
    """The answer of an invocation is a failure; it is stored like any answer and never retried.

    ``status_code`` 100 to 999 becomes the HTTP status; ``metadata`` travels with the failure.
    """

    def __init__(
        self, message: str, status_code: int = 500, metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.metadata = metadata


class RetryableError(Exception):
    """The attempt failed and is retried, by the policy, or after ``retry_after``.

    An attempt with ``retry_after`` does not count against the policy's ``max_attempts``, as behind the
    official server; in a closure with a policy of its own it does.
    """

    def __init__(
        self, message: str, status_code: int = 500, retry_after: timedelta | None = None
    ) -> None:
        if retry_after is not None and not isinstance(retry_after, timedelta):
            raise UsageError(f"retry_after is a datetime.timedelta, not {retry_after!r}")
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.retry_after = retry_after


class UsageError(TerminalError):
    """A mistake in the program, such as a missing ``await``: retrying the same code cannot help.

    It ends the invocation at once with a message that says what to change.
    """


class SdkInternalBaseException(BaseException):
    """Control flow of the engine inside a handler; ``except Exception`` must not swallow it."""


class SuspendedException(SdkInternalBaseException):
    """The handler waits for something that is not there yet; it comes back by replay."""


class SdkInternalException(SdkInternalBaseException):
    """The attempt ended for a reason of the engine's own; it is retried where that can help."""


def is_internal_exception(e: BaseException) -> bool:
    """Whether ``e`` is control flow of the engine that user code must let pass."""
    return isinstance(e, SdkInternalBaseException)


# ---- the protocol -------------------------------------------------------------------------------


class JournalMismatch(PerdureError):
    """The handler issued another command than the one its journal holds at this place."""

    code = 570


class ProtocolError(PerdureError):
    """The peer broke the service protocol; sending the same bytes again cannot help."""

    code = 571


class BadId(PerdureError):
    """A text is not an id of the kind asked for. The message is the reason, such as `bad format`."""

    code = 400


# ---- the store ----------------------------------------------------------------------------------


class StoreError(PerdureError):
    """Something is wrong with the data directory or the disk below it."""

    code = 503


class StoreBusy(StoreError):
    """Another process owns the data directory."""


class StoreDamaged(StoreError):
    """The data directory does not hold what was committed to it."""


class StoreFormat(StoreError):
    """The data directory is not ours, or of a format version that this release cannot read."""


class StoreFailed(StoreError):
    """A write failed: nothing is acknowledged any more until the store is opened again."""


class Fenced(StoreError):
    """Another owner appended after the position that was named; this owner is over."""


class AppendBusy(StoreError):
    """The log asks to send the same entry again later."""


class Unavailable(StoreError):
    """The log cannot be reached; the entry was definitely not written."""


class Indeterminate(StoreError):
    """Whether the entry was written is unknown; settle by a durable read before anything else."""


class EntryTooLarge(StoreError):
    """The commit group is over the log's limit; split it."""


class StepTooLarge(PerdureError):
    """What one event leads to fits no commit group; nothing of it was done."""

    code = 413


class MessageGap(PerdureError):
    """Messages of another partition are missing before this one; send again from there."""


class Overloaded(PerdureError):
    """A bounded queue is full; try again after ``retry_after_s`` seconds."""

    code = 503

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message
