"""Whether the current handler is replaying its journal; the logging filter asks here.

The runtime of handlers sets it, nobody else. It is a context variable, so it holds per invocation.
"""

from contextvars import ContextVar

restate_context_is_replaying: ContextVar[bool] = ContextVar(
    "restate_context_is_replaying", default=False
)
