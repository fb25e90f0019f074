"""For libraries that build on the SDK: the current context, and context managers with a value."""

from perdure.context_managers import contextvar
from perdure.current import current_context

__all__ = ["contextvar", "current_context"]
