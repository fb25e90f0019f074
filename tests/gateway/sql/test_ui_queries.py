"""The shapes of query that the official web UI sends (introspection 9), and the dialect (5), by values."""

from typing import Any

import pytest

from tests.gateway.sql.conftest import Filled, Sql


def test_the_list_joins_both_views_by_hand(filled: Filled, sql: Sql) -> None:
    base = (
        "SELECT ss.id FROM sys_invocation_status ss "
        "LEFT JOIN sys_invocation_state sis ON sis.id = ss.id WHERE {} LIMIT 250"
    )
    running = sql(base.format("ss.status = 'invoked' AND sis.in_flight"))
    shown = sql("SELECT id FROM sys_invocation WHERE status = 'running' LIMIT 250")
    assert sorted(row["id"] for row in running) == sorted(row["id"] for row in shown)
    backing = base.format(
        "ss.status = 'invoked' AND sis.in_flight IS NOT TRUE AND COALESCE(sis.retry_count, 0) > 0"
    )
    assert sql(backing) == [{"id": filled.ids["backing"]}]
    ready = base.format(
        "ss.status = 'invoked' AND sis.in_flight IS NOT TRUE AND COALESCE(sis.retry_count, 0) = 0"
    )
    assert sql(ready) == []


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("\"status\" = 'suspended'", {"suspended"}),
        ("\"target_service_name\" != 'Desk' AND \"status\" != 'completed'",
         {"running", "pending", "workflow"}),
        ("\"target_handler_name\" LIKE '%old%'", {"running"}),
        ("\"completion_failure\" NOT IN ('[409] killed', '[409] canceled', '[409] cancelled')",
         {"refused"}),
        ("\"target_service_key\" IS NULL AND \"status\" = 'completed' AND \"target\" NOT LIKE '%greet'",
         {"refused", "chain"}),
        ("\"created_at\" < '2020-01-01T00:00:00.000Z'", set()),
        ("\"created_at\" > '2020-01-01T00:00:00.000Z' AND \"status\" = 'paused'", {"paused"}),
    ],
)  # fmt: skip
def test_filters(filled: Filled, sql: Sql, condition: str, names: set[str]) -> None:
    rows = sql(f"SELECT id FROM sys_invocation WHERE {condition} LIMIT 250")
    by_id = {id: name for name, id in filled.ids.items()}
    assert {by_id[row["id"]] for row in rows if row["id"] in by_id} == names


def test_the_status_summary(sql: Sql) -> None:
    words = ("inboxed", "scheduled", "invoked", "suspended", "paused", "completed")
    sums = ", ".join(f"SUM(CASE WHEN status = '{w}' THEN 1 ELSE 0 END) AS {w}" for w in words)
    (row,) = sql(
        f"SELECT target_service_name, {sums} FROM (SELECT * FROM sys_invocation_status LIMIT 50000) "
        "WHERE target_service_name = 'Box' GROUP BY target_service_name"
    )
    assert row == {
        "target_service_name": "Box", "inboxed": 1, "scheduled": 0, "invoked": 1, "suspended": 0,
        "paused": 0, "completed": 2,
    }  # fmt: skip
    (running,) = sql("SELECT COUNT(1) AS running FROM sys_invocation_state WHERE in_flight")
    (shown,) = sql("SELECT COUNT(1) AS running FROM sys_invocation WHERE status = 'running'")
    assert running == shown


def test_the_history(sql: Sql) -> None:
    rows = sql(
        "SELECT to_unixtime(date_bin(INTERVAL '60 seconds', completed_at, "
        "TIMESTAMP '1970-01-01T00:00:00')) AS bucket, "
        "COUNT(1) FILTER (WHERE completion_result = 'success') AS ok, "
        "COUNT(1) FILTER (WHERE completion_result = 'failure') AS failed "
        "FROM sys_invocation WHERE status = 'completed' AND completed_at > now() - interval '1' hour "
        "GROUP BY bucket ORDER BY bucket"
    )
    assert all(row["bucket"] % 60 == 0 for row in rows)
    assert sum(row["failed"] for row in rows) == 1
    assert sum(row["ok"] for row in rows) >= 3


def test_the_page_of_an_invocation(filled: Filled, sql: Sql) -> None:
    id = filled.ids["paused"]
    entries = sql(
        "SELECT id, index, appended_at, entry_type, name, entry_lite_json, raw, version, completed, "
        "sleep_wakeup_at, invoked_id, invoked_target, promise_name FROM sys_journal "
        f"WHERE id = '{id}' ORDER BY index"
    )
    assert [row["entry_lite_json"] for row in entries] == ['{"Command":{"Input":{}}}']
    events = sql(
        "SELECT after_journal_entry_index, appended_at, event_type, event_json "
        f"FROM sys_journal_events WHERE id = '{id}' ORDER BY appended_at"
    )
    assert {row["event_type"] for row in events} == {"TransientError", "Paused"}
    latest = sql(
        f"SELECT event_json FROM sys_journal_events WHERE id = '{id}' AND event_type = 'Paused' "
        "ORDER BY appended_at DESC LIMIT 1"
    )
    assert len(latest) == 1


def test_the_page_of_an_object(filled: Filled, sql: Sql) -> None:
    where = "service_name = 'Box' AND service_key = 'a'"
    assert sql(
        f"SELECT COUNT(*) AS n, COALESCE(SUM(value_length), 0) AS size FROM state WHERE {where}"
    ) == [{"n": 2, "size": 5}]
    assert sql(
        "SELECT key, value_length, CASE WHEN value_length <= 2 THEN value END AS value FROM state "
        f"WHERE {where} ORDER BY key"
    ) == [{"key": "raw", "value_length": 2, "value": "ff00"}, {"key": "value", "value_length": 3}]
    ahead = sql(
        "SELECT COUNT(1) AS position FROM sys_inbox WHERE service_name = 'Box' AND service_key = "
        "'locked' AND sequence_number < (SELECT sequence_number FROM sys_inbox WHERE id = "
        f"'{filled.ids['pending']}')"
    )
    assert ahead == [{"position": 0}]


def test_the_page_of_a_workflow(filled: Filled, sql: Sql) -> None:
    assert sql(
        "SELECT COUNT(1) AS n FROM sys_promise WHERE service_name = 'Flow' AND service_key = 'w' "
        "AND completed IS NOT TRUE"
    ) == [{"n": 1}]
    assert sql(
        "SELECT id FROM sys_invocation WHERE target_service_name = 'Flow' AND target_handler_name = "
        "'run' ORDER BY created_at DESC NULLS LAST LIMIT 250"
    ) == [{"id": filled.ids["workflow"]}]


def test_drained_deployments(sql: Sql) -> None:
    assert (
        sql(
            "WITH active_deployments AS (SELECT deployment_id AS id FROM sys_service UNION SELECT "
            "pinned_deployment_id AS id FROM sys_invocation_status WHERE status != 'completed') "
            "SELECT d.id FROM sys_deployment d EXCEPT SELECT id FROM active_deployments"
        )
        == []
    )


def test_the_state_explorer(sql: Sql) -> None:
    assert sql(
        "SELECT DISTINCT service_key FROM state WHERE service_name = 'Box' ORDER BY service_key"
    ) == [{"service_key": "a"}, {"service_key": "called"}]
    assert sql(
        "SELECT DISTINCT key FROM state WHERE service_name = 'Box' GROUP BY key ORDER BY key"
    ) == [{"key": "raw"}, {"key": "value"}]
    (size,) = sql(
        "SELECT service_name, SUM(key_length + value_length) AS size FROM state GROUP BY service_name"
    )
    assert size == {"service_name": "Box", "size": 26}


DIALECT: list[tuple[str, Any]] = [
    ("5 / 2", 2),
    ("'a' || 'b'", "ab"),
    ("encode('ab', 'base64')", "YWI"),
    ("CAST(5 AS STRING)", "5"),
    ("CAST('5' AS INT UNSIGNED)", 5),
    ("'5'::bigint", 5),
    ("arrow_cast('x', 'LargeUtf8')", "x"),
    ("'abc' ~ 'b.'", True),
    ("'abc' ILIKE 'AB%'", True),
    ("SUBSTR('abc', 2)", "bc"),
    ("2 BETWEEN 1 AND 3", True),
    ("(1 = 2) IS NOT TRUE", True),
    ("arrow_typeof(now() - interval '1 hour')", "Timestamp(ns)"),
    ("date_trunc('day', to_timestamp(1795335403))", "2026-11-22T00:00:00"),
    ("json_get_str('{\"a\":\"x\"}', 'a')", "x"),
    ("json_get_int('{\"a\":5}', 'a')", 5),
    ("json_get_int('[7]', '0')", 7),
    ("json_contains('{\"a\":5}', 'b')", False),
    ("json_as_text('{\"a\":[1]}', 'a')", "[1]"),
    ("'{\"a\":{\"b\":1}}' -> 'a' ->> 'b'", "1"),
]


@pytest.mark.parametrize(("expression", "value"), DIALECT)
def test_the_dialect(sql: Sql, expression: str, value: Any) -> None:
    assert sql(f"select {expression} as x") == [{"x": value}]


def test_names_of_what_has_no_name(sql: Sql) -> None:
    assert list(sql("select 1, count(*), count(1) from sys_rules")[0]) == [
        "Int64(1)", "count(*)", "count(Int64(1))",
    ]  # fmt: skip


def test_aggregates_windows_and_sets(sql: Sql) -> None:
    assert sql("select ty, count(*) as n from sys_service group by all order by ty") == [
        {"ty": "service", "n": 1}, {"ty": "virtual_object", "n": 1}, {"ty": "workflow", "n": 1},
    ]  # fmt: skip
    assert sql("select name, row_number() over (order by name) as r from sys_service limit 1") == [
        {"name": "Box", "r": 1}
    ]
    assert sql("select array_agg(name order by name) as a from sys_service") == [
        {"a": ["Box", "Desk", "Flow"]}
    ]
    assert sql("select name from sys_service except select 'Box' order by 1 limit 1") == [
        {"name": "Desk"}
    ]


def test_the_catalog_is_named_as_clients_expect(sql: Sql) -> None:
    (row,) = sql(
        "select table_catalog, table_schema, data_type from information_schema.columns "
        "where table_name = 'sys_invocation' and column_name = 'created_at'"
    )
    assert row == {
        "table_catalog": "restate",
        "table_schema": "public",
        "data_type": 'Timestamp(ms, "+00:00")',
    }
    assert {row["table_name"] for row in sql("show tables")} >= {"sys_invocation", "state"}
    assert sql("describe sys_service")[0]["data_type"] == "LargeUtf8"
    assert sql("explain select * from sys_invocation")
