"""One query from text to bytes: planned, its tables loaded, carried out by DataFusion, encoded.

A session knows nothing but the tables of gateway/sql/schema.py: no files, no URLs, no statements that
change anything. Each query has a session of its own. Introspection 1 to 5.
"""

import io
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
from datafusion import DataFrame, RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions

from perdure.gateway.sql import json_rows
from perdure.gateway.sql.batches import arrow_schema
from perdure.gateway.sql.failures import refusal
from perdure.gateway.sql.json_functions import JSON_FUNCTIONS
from perdure.gateway.sql.json_operators import rewrite
from perdure.gateway.sql.pushdown import needs
from perdure.gateway.sql.schema import TABLES
from perdure.gateway.sql.source import Source
from perdure.gateway.sql.tables import load

_READ_ONLY: Final = (
    SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
)
_CONFIG: Final = {
    "datafusion.sql_parser.dialect": "PostgreSQL",
    "datafusion.sql_parser.map_string_types_to_utf8view": "false",
    "datafusion.execution.target_partitions": "1",  # calls need the other cores more
}
_SCHEMAS: Final = {name: arrow_schema(columns) for name, columns in TABLES.items()}
_COLUMNS: Final = {name: set(columns) for name, columns in TABLES.items()}
_CHUNK_BYTES: Final = 64 << 10


def answer(sql: str, as_json: bool, memory_bytes: int, source: Source) -> Iterator[bytes]:
    """The body of the answer in pieces, at least one. Raises QueryRefused."""
    try:
        frame = _prepare(rewrite(sql), memory_bytes, source)
        batches = (batch.to_pyarrow() for batch in frame.execute_stream())
        full = (each for each in batches if each.num_rows)
        yield from _json(full) if as_json else _arrow(full, frame.schema())
    except Exception as e:
        raise refusal(e) from e


def _session(memory_bytes: int) -> SessionContext:
    config = SessionConfig(_CONFIG).with_default_catalog_and_schema("restate", "public")
    config = config.with_information_schema(True)
    runtime = RuntimeEnvBuilder().with_greedy_memory_pool(memory_bytes).with_disk_manager_disabled()
    session = SessionContext(config, runtime)
    for each in JSON_FUNCTIONS:
        session.register_udf(each)
    for name, schema in _SCHEMAS.items():
        session.register_record_batches(name, [[pa.RecordBatch.from_pylist([], schema=schema)]])
    return session


def _prepare(sql: str, memory_bytes: int, source: Source) -> DataFrame:
    """Planned twice where it reads tables: the first plan tells what to load."""
    session = _session(memory_bytes)
    frame = session.sql_with_options(sql, _READ_ONLY)
    wanted = needs(frame.optimized_logical_plan(), _COLUMNS)
    if not wanted:
        return frame
    left = memory_bytes
    for name, need in wanted.items():
        batches = load(name, need, source, left)
        left -= batches.size_bytes
        session.deregister_table(name)
        session.register_record_batches(name, [batches.all()])
    return session.sql_with_options(sql, _READ_ONLY)


# ---- encodings -----------------------------------------------------------------------------------


def _json(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    parts, size, separator = [json_rows.HEAD], 0, ""
    for batch in batches:
        for row in json_rows.rows(batch):
            parts.append(separator + row)
            separator = ","
            size += len(row)
            if size >= _CHUNK_BYTES:
                yield "".join(parts).encode()
                parts, size = [], 0
    parts.append(json_rows.TAIL)
    yield "".join(parts).encode()


def _arrow(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    """An IPC stream without metadata; of no rows: the schema and the end alone."""
    schema = schema.remove_metadata()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
            if sink.tell() >= _CHUNK_BYTES:
                yield sink.getvalue()
                sink.seek(0)
                sink.truncate()
    yield sink.getvalue()
