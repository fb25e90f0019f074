"""How failed attempts of an invocation are retried, as written on a service or a handler.

Only the shape; `perdure.journal.retry` computes delays, `perdure.describe` fills in the defaults.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal


@dataclass
class InvocationRetryPolicy:
    """Exponential backoff; a field left at None is taken from the next outer level.

    ``max_attempts`` counts the first attempt too. ``on_max_attempts``: "pause" holds the invocation
    until it is resumed, "kill" ends it with the last attempt's error.
    """

    initial_interval: timedelta | None = None
    exponentiation_factor: float | None = None
    max_interval: timedelta | None = None
    max_attempts: int | None = None
    on_max_attempts: Literal["pause", "kill"] | None = None
