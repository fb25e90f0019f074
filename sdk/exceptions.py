"""The errors that handlers raise and catch, under the names that users import them by.

Nothing is defined here: the error tree lives in `perdure.journal.errors`.
"""

from perdure.journal.errors import (
    RetryableError,
    SdkInternalBaseException,
    SdkInternalException,
    SuspendedException,
    TerminalError,
    UsageError,
    is_internal_exception,
)

__all__ = [
    "RetryableError",
    "SdkInternalBaseException",
    "SdkInternalException",
    "SuspendedException",
    "TerminalError",
    "UsageError",
    "is_internal_exception",
]
