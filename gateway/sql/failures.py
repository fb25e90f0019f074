"""What DataFusion says of a query that fails, to status and text of the answer. Pure. Introspection 4."""

import re
from typing import Final

PREFIX: Final = "Datafusion error: "
_UNKNOWN_TABLE: Final = re.compile(r"^Error during planning: table '.*' not found")
_PARSER_OR_PLAN: Final = ("SQL error:", "Error during planning:")


class QueryRefused(Exception):
    """A query that is not carried out, or not to its end."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def refusal(error: Exception) -> QueryRefused:
    if isinstance(error, QueryRefused):
        return error
    text = _clean(str(error))
    return QueryRefused(_status(text), PREFIX + text)


def bad_invocation_id() -> QueryRefused:
    return QueryRefused(500, f"{PREFIX}External error: non valid invocation id")


def too_large(limit_bytes: int) -> QueryRefused:
    return QueryRefused(
        500,
        f"{PREFIX}Resources exhausted: the rows that the query reads take more than {limit_bytes} "
        "bytes ('admin.query_memory_limit'); ask for fewer rows or columns",
    )


def _clean(text: str) -> str:
    """Without what the bindings put around a message."""
    text = text.removeprefix("DataFusion error: ")
    return text.partition("\n\nbacktrace:")[0]


def _status(text: str) -> int:
    if _UNKNOWN_TABLE.match(text):
        return 500
    return 400 if text.startswith(_PARSER_OR_PLAN) else 500
