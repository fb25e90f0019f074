"""From what goes wrong with a deployment to the failure of its attempt. Pure.

Statuses of HTTP, broken protocol, errors beyond reason. Rules: service protocol 2.2, 5.5, 5.9.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from perdure.actors.remote.port import Headers
from perdure.journal.attempt import Behavior, Failed
from perdure.journal.errors import ProtocolError

_LONGEST_RETRY_AFTER_S = 86_400  # what claims to be down for longer is asked again after a day
_LONGEST_RETRY_DELAY_MS = 100 * 365 * 86_400_000
MOST_TEXT = 32_768  # characters of an error's message or trace; its invocation's record has them
_TOO_DEEP = "[RT0025]"  # a retry would only do the same (protocol 5.5)


def within_reason(failed: Failed) -> Failed:
    """Without what would be too much to keep, or to wait for; with words and a code where it has none."""
    delay_ms = failed.next_retry_delay_ms
    return msgspec.structs.replace(
        failed,
        code=failed.code or 500,
        message=failed.message[:MOST_TEXT] or "the deployment sent an error without a message",
        stacktrace=failed.stacktrace[:MOST_TEXT],
        related_command_name=failed.related_command_name[:MOST_TEXT],
        next_retry_delay_ms=None if delay_ms is None else min(delay_ms, _LONGEST_RETRY_DELAY_MS),
    )


def broken(error: ProtocolError) -> Failed:
    """The peer broke the protocol."""
    text = str(error)
    behavior = Behavior.PAUSE if text.startswith(_TOO_DEEP) else Behavior.RETRY
    return Failed(error.code, text, behavior=behavior)


def refusal(status: int, headers: Headers, now_ms: int) -> Failed:
    """An HTTP status that is not 2xx; none of them is terminal (protocol 2.2)."""
    if status in (429, 503):
        delay_ms = _retry_after_ms(headers, now_ms)
        message = f"[RT0023] the deployment is overloaded (HTTP {status})"
        return Failed(status, message, next_retry_delay_ms=delay_ms)
    if status in (502, 504):
        return Failed(status, f"[RT0010] the deployment is unavailable (HTTP {status})")
    if status == 413:
        return Failed(status, "[RT0019] the deployment refuses a request of this size (HTTP 413)")
    if status == 415:
        message = "[RT0015] the deployment does not speak this protocol version any more (HTTP 415)"
        return Failed(status, message, counts=False)
    return Failed(500, f"[RT0012] the deployment answered with HTTP {status}")


def _retry_after_ms(headers: Headers, now_ms: int) -> int | None:
    """Whole seconds, or a date that is not over yet; None for anything else. At most a day.

    Zero is no delay to honour either: a deployment that is down would be asked without a pause.
    """
    found = next((value for name, value in headers if name == "retry-after"), "").strip()
    longest_ms = _LONGEST_RETRY_AFTER_S * 1000
    if found.isascii() and found.isdigit():
        delay_ms = longest_ms if len(found) > 9 else min(int(found) * 1000, longest_ms)
        return delay_ms or None
    try:
        date = parsedate_to_datetime(found)
        if date.tzinfo is None:  # "-0000"
            date = date.replace(tzinfo=UTC)
        delay_ms = int(date.timestamp() * 1000) - now_ms
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return min(delay_ms, longest_ms) if delay_ms > 0 else None
