"""Errors of user code, as they are stored: whatever was raised becomes text and numbers that a journal holds.

Nothing that a handler raises may keep its invocation from being recorded.
"""

import traceback
from collections.abc import Callable, Mapping

from perdure.journal.attempt import Failed
from perdure.journal.entries import Failure
from perdure.journal.errors import TerminalError

_MAX_CODE = 0xFFFF
_MAX_TEXT = 64 << 10  # characters of a message or a stack trace; the rest is cut
_MAX_METADATA = 1 << 20  # characters of all names and values; the pairs after them are left out


def failure_of(error: TerminalError) -> Failure:
    """The answer of an invocation, or the result of a run, that ended with ``error``."""
    return Failure(_code(error.status_code), storable(error.message), _metadata(error.metadata))


def _metadata(found: object) -> dict[str, str]:
    """As much of it as there is room for; what is no mapping holds nothing."""
    kept: dict[str, str] = {}
    room = _MAX_METADATA
    for name, value in found.items() if isinstance(found, Mapping) else ():
        pair = storable(name), storable(value)
        room -= len(pair[0]) + len(pair[1])
        if room < 0:
            break
        kept[pair[0]] = pair[1]
    return kept


def failed(code: object, error: BaseException, message: object, delay_ms: int | None) -> Failed:
    """The end of an attempt that is to be retried. ``delay_ms`` None: as the policy says."""
    stacktrace = storable("".join(traceback.format_exception(error)))
    return Failed(_code(code), storable(message), stacktrace, next_retry_delay_ms=delay_ms)


def storable(text: object) -> str:
    """``text`` as UTF-8 can hold it, cut in the middle where it is too long."""
    shown = text if type(text) is str else _shown(text, str)
    if len(shown) > _MAX_TEXT:
        half = _MAX_TEXT // 2
        shown = f"{shown[:half]}\n[... {len(shown) - _MAX_TEXT} characters ...]\n{shown[-half:]}"
    return shown if shown.isascii() else shown.encode("utf-8", "backslashreplace").decode()


def representation(error: BaseException) -> str:
    """As ``repr``, also of an error whose own ``__repr__`` raises."""
    return _shown(error, repr)


def _shown(value: object, how: Callable[[object], str]) -> str:
    try:
        return str.__str__(how(value))  # a plain one: the encoder refuses other kinds of str
    except Exception as e:
        return f"<{type(value).__name__} that can't be shown: {type(e).__name__}>"


def _code(code: object) -> int:
    """Codes outside of 0 to 65,535, or of another type, become 500."""
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:6])
    return int(code) if isinstance(code, int) and 0 <= code <= _MAX_CODE else 500
