"""Columns of Python values to Arrow record batches, as the tables' schemas say. No rows are made here."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from perdure.gateway.sql.schema import Columns, Kind

TYPES: Final[dict[Kind, pa.DataType]] = {
    Kind.TEXT: pa.large_string(),
    Kind.BYTES: pa.large_binary(),
    Kind.BOOL: pa.bool_(),
    Kind.U32: pa.uint32(),
    Kind.U64: pa.uint64(),
    Kind.TIME: pa.timestamp("ms", "+00:00"),
    Kind.SPAN: pa.duration("ms"),
    Kind.U32_LIST: pa.list_(pa.field("item", pa.uint32())),
    Kind.TEXT_LIST: pa.list_(pa.field("item", pa.large_string())),
}


def arrow_schema(columns: Columns) -> pa.Schema:
    return pa.schema([pa.field(name, TYPES[kind]) for name, kind in columns.items()])


class Batches:
    """Collects record batches of one table. Columns that nobody asked for are shared empty ones."""

    def __init__(self, columns: Columns) -> None:
        self.schema = arrow_schema(columns)
        self.made: list[pa.RecordBatch] = []
        self.size_bytes = 0
        self._nulls: dict[tuple[str, int], pa.Array] = {}

    def add(self, count: int, values: Mapping[str, Iterable[Any]]) -> None:
        """``count`` rows; ``values`` by column."""
        arrays = []
        for field in self.schema:
            if field.name in values:
                array = pa.array(values[field.name], field.type)
                self.size_bytes += array.nbytes
            else:
                array = self._null(field, count)
            arrays.append(array)
        self.made.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))

    def all(self) -> list[pa.RecordBatch]:
        """At least one, so that the table has a schema."""
        return self.made or [pa.RecordBatch.from_pylist([], schema=self.schema)]

    def _null(self, field: pa.Field, count: int) -> pa.Array:
        key = str(field.type), count
        if key not in self._nulls:
            self._nulls[key] = pa.nulls(count, field.type)
        return self._nulls[key]
