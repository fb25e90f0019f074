"""What a query needs of one table: columns, values asked for, how many rows. Pure; no DataFusion here.

A need may be wider than the query, never narrower: DataFusion applies every filter again.
"""

from collections.abc import Callable

import msgspec


class Condition(msgspec.Struct, frozen=True):
    """On one column: among ``values``, or (``negated``) not null and not among them."""

    column: str
    values: frozenset[str | int]
    negated: bool = False

    def holds(self, value: object) -> bool:
        return value is not None and (value in self.values) is not self.negated


class Top(msgspec.Struct, frozen=True):
    """The ``count`` rows with the highest (or lowest) values of a column; ties and NULL stay in."""

    column: str
    count: int
    descending: bool


class Need(msgspec.Struct):
    """Of one table. A row may be wanted where all conditions of any of ``alternatives`` hold.

    ``limit``: that many rows that pass are enough. ``top``: of those that pass, which.
    """

    columns: set[str]
    alternatives: list[tuple[Condition, ...]]
    limit: int | None = None
    top: Top | None = None

    def among(self, column: str) -> frozenset[str | int] | None:
        """The values of ``column`` that alone can be wanted; None: any."""
        found: frozenset[str | int] = frozenset()
        for conditions in self.alternatives:
            allowed = None
            for each in conditions:
                if each.column == column and not each.negated:
                    allowed = each.values if allowed is None else allowed & each.values
            if allowed is None:
                return None
            found |= allowed
        return found

    def tested(self) -> set[str]:
        """Columns that some condition looks at."""
        return {each.column for conditions in self.alternatives for each in conditions}

    def wants(self, value_of: Callable[[str], object]) -> bool:
        """Whether a row may be wanted; ``value_of`` gives its columns."""
        return any(
            all(each.holds(value_of(each.column)) for each in conditions)
            for conditions in self.alternatives
        )


def everything(columns: set[str]) -> Need:
    return Need(columns, [()])
