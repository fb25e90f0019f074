"""`POST /query` itself: encodings, statuses, what is refused, and what happens to a query without end."""

import io
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.crash.server import Server
from tests.gateway.sql.conftest import PROGRAM, Filled, Sql

ARROW = "application/vnd.apache.arrow.stream"


# ---- encodings -----------------------------------------------------------------------------------


def test_json_comes_only_where_exactly_that_is_asked_for(filled: Filled) -> None:
    answer = filled.query("select 1 as n")
    assert (answer.headers["content-type"], answer.text) == (
        "application/json",
        '{"rows":[{"n":1}]}',
    )


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json, text/plain",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "",
    ],
)
def test_everything_else_gets_arrow(filled: Filled, accept: str) -> None:
    answer = filled.query("select 1 as n", accept)
    assert answer.headers["content-type"] == ARROW
    assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == [{"n": 1}]


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
def test_every_version_of_the_api_has_it(filled: Filled, prefix: str) -> None:
    url = f"{filled.server.admin_url}{prefix}/query"
    answer = httpx.post(
        url,
        json={"query": "select 1 as n", "extra": True},
        headers={"accept": "application/json"},
        trust_env=False,
    )
    assert answer.json() == {"rows": [{"n": 1}]}


def test_an_empty_arrow_answer_is_a_schema_and_the_end(filled: Filled) -> None:
    answer = filled.query("select id, created_at from sys_invocation where false", "*/*")
    reader = pa.ipc.open_stream(answer.content)
    assert list(reader) == []
    assert reader.schema == pa.schema(
        [("id", pa.large_string()), ("created_at", pa.timestamp("ms", "+00:00"))]
    )


def test_a_count_is_the_first_column_of_the_first_batch(filled: Filled) -> None:
    answer = filled.query("SELECT COUNT(1) FROM sys_service", "*/*")
    batch = next(iter(pa.ipc.open_stream(io.BytesIO(answer.content))))
    assert (batch.column(0).type, batch.column(0).to_pylist()) == (pa.int64(), [3])


def test_arrow_types_are_those_of_the_tables(filled: Filled) -> None:
    answer = filled.query("select * from sys_invocation limit 1", "*/*")
    schema = pa.ipc.open_stream(answer.content).schema
    assert schema.metadata is None
    assert {str(field.type) for field in schema} == {
        "large_string", "uint32", "uint64", "timestamp[ms, tz=+00:00]", "duration[ms]",
        "list<item: uint32>",
    }  # fmt: skip


def test_a_large_answer_is_whole(filled: Filled) -> None:
    query = "select value as n, repeat('x', 100) as s from range(0, 20000)"
    rows = filled.rows(query)
    assert [row["n"] for row in rows] == list(range(20_000))
    table = pa.ipc.open_stream(filled.query(query, "*/*").content).read_all()
    assert table.to_pylist() == rows


# ---- errors --------------------------------------------------------------------------------------

ERRORS: list[tuple[str, int, str]] = [
    ("selec", 400, "SQL error: ParserError(\"Expected: an SQL statement, found: selec at Line: 1, "
                   "Column: 1\")"),
    ("", 400, "Error during planning: No SQL statements were provided in the query string"),
    ("create table x as select 1", 400, "Error during planning: DDL not supported: CreateMemoryTable"),
    ("select * from nope", 500, "Error during planning: table 'restate.public.nope' not found"),
    ("select 1; select 2", 500, "This feature is not implemented: The context currently only supports "
                                "a single SQL statement"),
    ("select * from sys_invocation where id = 'foo'", 500, "External error: non valid invocation id"),
    ("select * from sys_journal where id in ('foo')", 500, "External error: non valid invocation id"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "status", "message"), ERRORS)
def test_errors_have_the_status_and_the_text_that_clients_know(
    filled: Filled, query: str, status: int, message: str
) -> None:
    answer = filled.query(query)
    assert answer.status_code == status
    assert answer.json() == {"message": f"Datafusion error: {message}"}


def test_an_unknown_column_names_those_there_are(filled: Filled) -> None:
    answer = filled.query("select nope from sys_rules")
    assert answer.status_code == 500
    assert answer.json()["message"].startswith(
        "Datafusion error: Schema error: No field named nope."
    )
    assert "sys_rules.pattern" in answer.json()["message"]


def test_a_malformed_id_within_an_or_matches_nothing(sql: Sql) -> None:
    assert sql("select 1 from sys_service where name = 'x' or deployment_id = 'foo'") == []
    assert sql("select id from sys_invocation where id = 'foo' or target = 'none'") == []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"query":"select 1"}', {}, 415),
        (b"nonsense", {"content-type": "application/json"}, 400),
        (b'{"sql":"select 1"}', {"content-type": "application/json"}, 422),
    ],
)
def test_what_is_no_query_is_refused(
    filled: Filled, content: bytes, headers: dict[str, str], status: int
) -> None:
    url = f"{filled.server.admin_url}/query"
    assert httpx.post(url, content=content, headers=headers, trust_env=False).status_code == status


# ---- reading only --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "insert into state values (1)",
        "delete from state",
        "update state set key = 'x'",
        "truncate table state",
        "drop table state",
        "create view v as select 1",
        "create external table t stored as csv location '/etc/passwd'",
        "copy (select 1) to '{there}'",
        "copy (select 1) to '{there}' stored as csv",
        "explain analyze copy (select 1) to '{there}' stored as csv",
        "set datafusion.execution.batch_size = 1",
        "prepare p as select 1",
        "create function f() returns int as 'x'",
        "select * from '/etc/passwd'",
        "select * from 'file:///etc/passwd'",
        "select * from 'http://127.0.0.1:1/x.parquet'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
    ],
)
def test_nothing_but_tables_is_read_and_nothing_is_written(
    filled: Filled, tmp_path: Path, query: str
) -> None:
    there = tmp_path / "stolen.csv"
    answer = filled.query(query.format(there=there))
    assert answer.status_code in (400, 500), answer.text
    assert answer.json()["message"].startswith("Datafusion error: ")
    assert not there.exists()


def test_one_client_cannot_change_settings_for_another(filled: Filled, sql: Sql) -> None:
    before = sql("show all")
    filled.query("set datafusion.catalog.information_schema = false")
    assert sql("show all") == before


# ---- bounds --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that gives a query three seconds and little memory."""
    flags = ("--set", "admin.query_timeout=3s", "--set", "admin.query_memory_limit=32MiB")
    with Server(tmp_path_factory.mktemp("hasty") / "data", PROGRAM, flags=flags) as server:
        yield Filled(server, {})


def test_a_query_without_end_is_ended_and_the_next_one_answered(hasty: Filled) -> None:
    hasty.rows("select 1")  # starting the process is not to be timed
    answer = hasty.query(
        "select sum(a.value * b.value) from range(0, 100000) a, range(0, 10000000) b"
    )
    assert answer.status_code == 504
    assert "admin.query_timeout" in answer.json()["message"]
    assert hasty.rows("select 1 as n") == [{"n": 1}]


@pytest.mark.parametrize(
    "query",
    [
        "select array_agg(value) from range(0, 100000000)",
        "select value from range(0, 100000000) order by value % 7, value desc",
        "select length(repeat('a', 2000000000))",
    ],
)
def test_a_query_that_takes_too_much_memory_is_ended(hasty: Filled, query: str) -> None:
    answer = hasty.query(query)
    assert answer.status_code in (500, 504)
    assert "message" in answer.json()
    assert hasty.rows("select 1 as n") == [{"n": 1}]


def test_calls_are_answered_while_a_query_runs(hasty: Filled) -> None:
    url = hasty.server.ingress_url
    with httpx.Client(trust_env=False, timeout=30) as client:
        before = client.post(f"{url}/Desk/greet", json="Ada")
        assert before.json() == "Hello Ada"
    assert hasty.rows("select count(*) as n from sys_invocation") == [{"n": 1}]
