"""Where the spans of an invocation belong: trace contexts in the form of W3C's `traceparent`. Pure.

An invocation keeps its parent's context; its own span's id follows from the invocation's id, so that
whoever it calls, and whoever takes it over after a crash, names the same span. Attempts likewise.
"""

import re
from hashlib import blake2b
from typing import Final

NO_SPAN: Final = "0" * 16  # as the parent: the trace begins here
_NO_TRACE: Final = "0" * 32
_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


def parse(header: str) -> str | None:
    """The context in a `traceparent` header, in version 00; None where it is none."""
    found = _FORM.match(header)
    if found is None or found[1] == _NO_TRACE or found[2] == NO_SPAN:
        return None
    if header.startswith("00") and found[4]:
        return None
    return f"00-{found[1]}-{found[2]}-{found[3]}"


def begin(trace_id: bytes, sampled: bool) -> str:
    """A new trace, whose first span is the invocation's. ``trace_id``: 16 bytes of chance."""
    return f"00-{trace_id.hex()}-{NO_SPAN}-{'01' if sampled else '00'}"


def of_id(id: bytes) -> str:
    """A new trace for an invocation that nobody outside asked for; always sampled."""
    return begin(blake2b(id, digest_size=16).digest(), True)


def of_callee(trace: str, caller: bytes) -> str:
    """What an invocation passes on to those that it calls."""
    return _within(trace, span_id(caller))


def of_attempt(trace: str, id: bytes, attempt: int) -> str:
    """What an attempt passes on to the code that it runs."""
    return _within(trace, span_id(id, attempt))


def _within(trace: str, span: str) -> str:
    return f"{trace[:36]}{span}{trace[52:]}"


def span_id(id: bytes, attempt: int | None = None) -> str:
    """Of an invocation, or of one of its attempts; 16 hex digits."""
    own = id if attempt is None else b"%b/%d" % (id, attempt)
    return blake2b(own, digest_size=8).hexdigest()


def trace_id(trace: str) -> str:
    return trace[3:35]


def parent_id(trace: str) -> str:
    """The span that the context names; ``NO_SPAN`` where the trace begins."""
    return trace[36:52]


def is_sampled(trace: str) -> bool:
    return int(trace[53:55], 16) & 1 == 1
