"""What extensions keep for one attempt, and the current context; under the official SDK's name."""

from perdure.current import (
    clear_extension_data,
    current_context,
    get_extension_data,
    set_extension_data,
)

__all__ = [
    "clear_extension_data",
    "current_context",
    "get_extension_data",
    "set_extension_data",
]
