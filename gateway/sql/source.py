"""Where tables get their rows from, as a query worker sees it. Its end of it: gateway/sql/worker.py."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeAlias

Row: TypeAlias = tuple[bytes, bytes]  # key and value in the store
Facts: TypeAlias = list[dict[str, Any]]

FETCH_AT_ONCE: Final = 500

# Live rows beside the tables of gateway/sql/schema.py
OPEN_ATTEMPTS: Final = "open attempts"  # id, attempt, started_at_ms, awaiting (JSON or None)
DELAYED_STARTS: Final = "delayed starts"  # id: runs as soon as fewer others do


class Source(Protocol):
    """Durable rows and live facts. Raises QueryRefused where they can't be had."""

    def scan(self, start: bytes, stop: bytes, keys_only: bool = False) -> Iterator[list[Row]]:
        """Everything from ``start`` up to ``stop``, in key order, in bounded parts."""

    def fetch(self, keys: list[bytes]) -> list[Row]:
        """The rows with these keys, where they exist, in the order of ``keys``."""

    def live(self, table: str) -> Facts:
        """Rows that are not in the store, by column name; the same all through a query."""


def fetch_all(source: Source, keys: Iterable[bytes]) -> Iterator[list[Row]]:
    part: list[bytes] = []
    for key in keys:
        part.append(key)
        if len(part) == FETCH_AT_ONCE:
            yield source.fetch(part)
            part = []
    if part:
        yield source.fetch(part)


Getter: TypeAlias = Callable[[Any], Any]  # a row of one table to the value of one column
