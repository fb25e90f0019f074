"""What a plan tells of the rows that a query needs."""

import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext

from perdure.gateway.sql.needs import Condition, Need, Top
from perdure.gateway.sql.pushdown import needs

SCHEMA = pa.schema([("id", pa.large_string()), ("n", pa.uint64()), ("status", pa.large_string())])
ALL = {"id", "n", "status"}


def of(query: str) -> dict[str, Need]:
    session = SessionContext(SessionConfig().with_target_partitions(1))
    for name in ("t", "u"):
        empty = pa.RecordBatch.from_pylist([], schema=SCHEMA)
        session.register_record_batches(name, [[empty]])
    return needs(session.sql(query).optimized_logical_plan(), {"t": ALL, "u": ALL})


def among(column: str, *values: str | int) -> Condition:
    return Condition(column, frozenset(values))


def none_of(column: str, *values: str | int) -> Condition:
    return Condition(column, frozenset(values), negated=True)


@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        ("id = 'a'", [among("id", "a")]),
        ("'a' = id", [among("id", "a")]),
        ("id in ('a', 'b')", [among("id", "a", "b")]),
        ("id in ('a', 'b', 'c', 'd', 'e')", [among("id", "a", "b", "c", "d", "e")]),
        ("id = 'a' or id = 'b'", [among("id", "a", "b")]),
        ("status != 'x' and n = 3", [none_of("status", "x"), among("n", 3)]),
        ("status not in ('x', 'y', 'z', 'w')", [none_of("status", "x", "y", "z", "w")]),
    ],
)
def test_plain_conditions_are_understood(where: str, conditions: list[Condition]) -> None:
    (need,) = of(f"select id, n, status from t where {where}").values()
    assert need == Need(ALL, [tuple(conditions)])


@pytest.mark.parametrize(
    "where",
    ["id like 'a%'", "id = 'a' or n = 1", "n > 3", "upper(id) = 'A'", "id is null", "id = status"],
)
def test_other_conditions_ask_for_every_row(where: str) -> None:
    (need,) = of(f"select id, n, status from t where {where} limit 3").values()
    assert need == Need(ALL, [()])


def test_only_columns_that_are_used_are_needed() -> None:
    assert of("select id from t where n = 1")["t"].columns == {"id", "n"}
    assert of("select count(*) from t")["t"].columns == set()


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("select id from t limit 5", 5),
        ("select id from t limit 5 offset 2", 7),
        ("select id from t where status = 'x' limit 5", 5),
        ("select id from t where status like 'x%' limit 5", None),
        ("select id from t order by n limit 5", None),
        ("select count(*) from t limit 5", None),
        ("select count(1) from (select * from t inv limit 9) where inv.status in ('x')", 9),
        ("select id from (select * from t where n = 1 limit 9) limit 5", 5),
    ],
)
def test_a_limit_counts_only_where_every_row_that_passes_is_one(
    query: str, limit: int | None
) -> None:
    assert of(query)["t"].limit == limit


def test_a_filter_above_a_limit_does_not_choose_the_rows() -> None:
    need = of("select count(1) from (select * from t inv limit 9) where inv.status = 'x'")["t"]
    assert need.alternatives == [()]


@pytest.mark.parametrize(
    ("query", "top"),
    [
        ("select id from t order by n desc, id limit 5", Top("n", 5, True)),
        (
            "select id from t x where x.status != 'a' order by x.n limit 5 offset 1",
            Top("n", 6, False),
        ),
        ("select id, n + 1 as n from t order by n desc limit 5", None),
        ("select id from t where n > 1 order by n desc limit 5", None),
        ("select id from t order by n desc", None),
        ("select status, max(n) as n from t group by status order by n desc limit 5", None),
    ],
)
def test_a_sorted_limit_tells_which_rows_are_enough(query: str, top: Top | None) -> None:
    assert of(query)["t"].top == top


def test_two_scans_of_a_table_need_what_either_does() -> None:
    need = of("select a.id from t a join t b on a.id = b.status where a.n = 1 and b.n = 2 limit 1")[
        "t"
    ]
    assert need.columns == ALL
    assert set(need.alternatives) == {(among("n", 1),), (among("n", 2),)}
    assert (need.limit, need.top) == (None, None)


def test_a_table_within_an_expression_is_needed_whole() -> None:
    found = of("select id, case when (select max(n) from u) > 3 then 1 else 2 end from t limit 1")
    assert found["u"] == Need(ALL, [()])
    assert found["t"] == Need({"id"}, [()], limit=1)


def test_the_information_schema_needs_no_table() -> None:
    session = SessionContext(SessionConfig().with_information_schema(True))
    plan = session.sql("select * from information_schema.columns where table_name = 't'")
    assert needs(plan.optimized_logical_plan(), {"t": ALL}) == {}


def test_null_satisfies_neither_form() -> None:
    assert not among("id", "a").holds(None)
    assert not none_of("id", "a").holds(None)
