"""Arrow values as JSON, by values."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from perdure.gateway.sql.json_rows import rows


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        (pa.uint64(), 2**63 + 1, "9223372036854775809"),
        (pa.int32(), -5, "-5"),
        (pa.float64(), 1000.0, "1000.0"),
        (pa.float64(), 2.5, "2.5"),
        (pa.float64(), float("inf"), "null"),
        (pa.decimal128(5, 2), Decimal("1.10"), "1.10"),
        (pa.large_string(), 'a"\n✓', '"a\\"\\n✓"'),
        (pa.string_view(), "x", '"x"'),
        (pa.bool_(), True, "true"),
        (pa.large_binary(), b"\x00\xffA", '"00ff41"'),
        (pa.timestamp("ms", "+00:00"), 1795335403849, '"2026-11-22T08:16:43.849Z"'),
        (pa.timestamp("ms", "+00:00"), 1795335403000, '"2026-11-22T08:16:43Z"'),
        (pa.timestamp("ms", "+00:00"), -1, '"1969-12-31T23:59:59.999Z"'),
        (pa.timestamp("ns"), 1795335761543087866, '"2026-11-22T08:22:41.543087866"'),
        (pa.date32(), 20779, '"2026-11-22"'),
        (pa.duration("ms"), 86_400_000, '"PT86400S"'),
        (pa.duration("ms"), 2139, '"PT2.139S"'),
        (pa.duration("ms"), 3, '"PT0.003S"'),
        (pa.duration("ms"), 0, '"P0D"'),
        (pa.duration("ms"), -1500, '"-PT1.5S"'),
        (pa.list_(pa.uint32()), [1, 17], "[1,17]"),
        (pa.list_(pa.large_string()), ["a", None], '["a",null]'),
        (pa.list_(pa.timestamp("ms", "+00:00")), [0], '["1970-01-01T00:00:00Z"]'),
    ],
)
def test_each_type_is_written_as_clients_read_it(
    kind: pa.DataType, value: Any, written: str
) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([value], kind)], ["x"])
    assert list(rows(batch)) == [f'{{"x":{written}}}']


def test_null_is_left_out_and_columns_keep_their_order() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1, None]), pa.array([None, "b"]), pa.array([None, None])], ["n", "s", "z"]
    )
    assert list(rows(batch)) == ['{"n":1}', '{"s":"b"}']
