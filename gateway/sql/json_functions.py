"""The functions `json_get_str(text, key)` and their like, for the JSON columns. Introspection 5.

``key``: of an object, or the number of an array's element. What is not there, or of another type, is NULL.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
from datafusion import ScalarUDF, udf

Pick = Callable[[Any], Any]
_MISSING: Final = object()


def _child(text: str | None, key: str | None) -> Any:
    if text is None or key is None:
        return _MISSING
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _MISSING
    if isinstance(value, dict):
        return value.get(key, _MISSING)
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return _MISSING


def _function(name: str, result: pa.DataType, pick: Pick) -> ScalarUDF:
    def evaluate(texts: pa.Array, names: pa.Array) -> pa.Array:
        pairs = zip(texts.to_pylist(), names.to_pylist(), strict=True)
        return pa.array([pick(_child(text, key)) for text, key in pairs], result)

    return udf(evaluate, [pa.large_string(), pa.large_string()], result, "immutable", name=name)


def _of(*kinds: type) -> Pick:
    return lambda value: value if type(value) in kinds else None


def _as_json(value: Any) -> str | None:
    return None if value is _MISSING else json.dumps(value, ensure_ascii=False)


def _as_text(value: Any) -> str | None:
    if value is None or value is _MISSING:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_float(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


def _as_int(value: Any) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


JSON_FUNCTIONS: Final = (
    _function("json_get_str", pa.large_string(), _of(str)),
    _function("json_get_int", pa.int64(), _as_int),
    _function("json_get_float", pa.float64(), _as_float),
    _function("json_get_bool", pa.bool_(), _of(bool)),
    _function("json_get_json", pa.large_string(), _as_json),
    _function("json_as_text", pa.large_string(), _as_text),
    _function("json_contains", pa.bool_(), lambda value: value is not _MISSING),
)
