"""Retry policy to next delay. Pure: the chance for the jitter comes in. Rule: service protocol 5.9."""

from perdure.journal.schema import RetryPolicy

_MIN_JITTER_MS = 3
_JITTER = 0.3


def next_delay_ms(policy: RetryPolicy, attempts: int) -> int | None:
    """How long to wait before the next attempt, or None when the policy is exhausted.

    ``attempts`` counts attempts already made, from 1. Milliseconds, before jitter. A configured
    maximum of 0 counts as 1: no retry.
    """
    if policy.max_attempts is not None and attempts >= max(policy.max_attempts, 1):
        return None
    try:
        grown = policy.initial_interval_ms * policy.factor ** (attempts - 1)
    except OverflowError:
        return policy.max_interval_ms
    return int(min(grown, policy.max_interval_ms))


def with_jitter(delay_ms: int, chance: float) -> int:
    """``delay_ms`` plus 3 ms to 30 % of it; ``chance`` from 0 to 1 says where between."""
    most = delay_ms * _JITTER
    if most <= _MIN_JITTER_MS:
        return delay_ms + _MIN_JITTER_MS
    return int(delay_ms + _MIN_JITTER_MS + (most - _MIN_JITTER_MS) * chance)
