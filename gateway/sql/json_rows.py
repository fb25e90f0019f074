"""Record batches to the JSON of `/query`: `{"rows":[{…},{…}]}`, without what is null. Introspection 2."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

HEAD: Final = '{"rows":['
TAIL: Final = "]}"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}

_text: Final = json.JSONEncoder(ensure_ascii=False).encode
Render = Callable[[Any], str]


def rows(batch: pa.RecordBatch) -> Iterator[str]:
    """Each row as a JSON object, in the order of the columns."""
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        plain, render = _plan(field.type)
        values = (column if plain is None else column.cast(plain)).to_pylist()
        columns.append((_text(field.name) + ":", render, values))
    for index in range(batch.num_rows):
        parts = []
        for name, render, values in columns:
            value = values[index]
            if value is not None:
                parts.append(name + render(value))
        yield "{" + ",".join(parts) + "}"


def _plan(kind: pa.DataType) -> tuple[pa.DataType | None, Render]:
    """What to cast a column to before it is taken apart, and how to write one value."""
    if pa.types.is_timestamp(kind):
        return pa.int64(), _timestamp(kind)
    if pa.types.is_duration(kind):
        return pa.int64(), _duration(_PER_SECOND[kind.unit])
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return None, str
    if pa.types.is_boolean(kind):
        return None, _boolean
    if pa.types.is_floating(kind):
        return None, _float
    if pa.types.is_large_binary(kind) or pa.types.is_binary(kind) or _is_binary_view(kind):
        return None, lambda value: f'"{value.hex()}"'
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return None, _list(kind)
    if pa.types.is_date(kind):
        return None, lambda day: _text(day.isoformat())
    if pa.types.is_null(kind):
        return None, lambda _: "null"
    return None, _other


def _is_binary_view(kind: pa.DataType) -> bool:
    return bool(kind == pa.binary_view()) or pa.types.is_fixed_size_binary(kind)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _float(value: float) -> str:
    return repr(value) if value - value == 0 else "null"  # JSON has no infinity


def _other(value: Any) -> str:
    return _text(value if isinstance(value, str) else str(value))


def _list(kind: pa.DataType) -> Render:
    plain, render = _plan(kind.value_type)

    def write(values: list[Any]) -> str:
        if plain is not None:
            values = pa.array(values, kind.value_type).cast(plain).to_pylist()
        return "[" + ",".join("null" if v is None else render(v) for v in values) + "]"

    return write


def _timestamp(kind: pa.TimestampType) -> Render:
    """ISO 8601; the fraction is left out where it is zero, `Z` only where there is a zone."""
    per_second, digits = _PER_SECOND[kind.unit], _DIGITS[kind.unit]
    end = '"' if kind.tz is None else 'Z"'

    def write(value: int) -> str:
        seconds, rest = divmod(value, per_second)
        try:
            moment = _EPOCH + timedelta(seconds=seconds)
        except OverflowError:
            return str(value)
        fraction = f".{rest:0{digits}d}" if rest else ""
        return f'"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{end}'

    return write


def _duration(per_second: int) -> Render:
    """Seconds as `PT1.5S`; none is `P0D`."""

    def write(value: int) -> str:
        if value == 0:
            return '"P0D"'
        sign = "-" if value < 0 else ""
        seconds, rest = divmod(abs(value), per_second)
        digits = len(str(per_second)) - 1
        fraction = f".{rest:0{digits}d}".rstrip("0") if rest else ""
        return f'"{sign}PT{seconds}{fraction}S"'

    return write
