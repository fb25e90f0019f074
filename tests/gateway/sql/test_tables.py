"""Every table and column, by what a server with an invocation in every state answers."""

from typing import Any

import pytest

from perdure.gateway.sql.schema import TABLES
from tests.gateway.sql.conftest import Filled, Sql

STATUSES = {
    "done": ("completed", "completed"),
    "refused": ("completed", "completed"),
    "chain": ("completed", "completed"),
    "running": ("running", "invoked"),
    "paused": ("paused", "paused"),
    "backing": ("backing-off", "invoked"),
    "suspended": ("suspended", "suspended"),
    "scheduled": ("scheduled", "scheduled"),
    "pending": ("pending", "inboxed"),
}


def one(sql: Sql, query: str) -> dict[str, Any]:
    rows = sql(query)
    assert len(rows) == 1, rows
    return rows[0]


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_its_columns_in_order_and_can_be_read(sql: Sql, table: str) -> None:
    columns = sql(
        f"select column_name from information_schema.columns where table_name = '{table}'"
    )
    assert [each["column_name"] for each in columns] == list(TABLES[table])
    for row in sql(f"select * from {table}"):
        assert [name for name in TABLES[table] if name in row] == list(row)


@pytest.mark.parametrize("name", STATUSES)
def test_status_is_told_in_both_words(filled: Filled, sql: Sql, name: str) -> None:
    id = filled.ids[name]
    shown = one(sql, f"select status from sys_invocation where id = '{id}'")["status"]
    stored = one(sql, f"select status from sys_invocation_status where id = '{id}'")["status"]
    assert (shown, stored) == STATUSES[name]


@pytest.mark.parametrize("status", sorted({shown for shown, _ in STATUSES.values()}))
def test_a_condition_on_status_finds_what_reading_everything_finds(sql: Sql, status: str) -> None:
    chosen = sql(f"select id from sys_invocation where status = '{status}' order by id")
    everything = sql("select id, status from sys_invocation order by id")
    assert chosen == [{"id": row["id"]} for row in everything if row["status"] == status]
    assert chosen


def test_an_object_call_is_described(filled: Filled, sql: Sql) -> None:
    row = one(sql, f"select * from sys_invocation where id = '{filled.ids['done']}'")
    moments = {name for name in row if name.endswith("_at")}
    assert moments == {"created_at", "modified_at", "completed_at"}
    assert {name: value for name, value in row.items() if name not in moments} == {
        "id": filled.ids["done"],
        "target": "Box/a/put",
        "target_service_name": "Box",
        "target_service_key": "a",
        "target_handler_name": "put",
        "target_service_ty": "virtual_object",
        "invoked_by": "ingress",
        "pinned_deployment_id": one(sql, "select id from sys_deployment")["id"],
        "journal_size": 4,
        "journal_commands_size": 4,
        "completion_retention": "PT86400S",
        "journal_retention": "PT86400S",
        "status": "completed",
        "completion_result": "success",
    }


def test_a_failure_has_its_code_and_message(filled: Filled, sql: Sql) -> None:
    query = "select completion_result, completion_failure from sys_invocation where id = '{}'"
    assert one(sql, query.format(filled.ids["refused"])) == {
        "completion_result": "failure",
        "completion_failure": "[409] sold out",
    }


def test_a_callee_names_its_caller(filled: Filled, sql: Sql) -> None:
    row = one(
        sql,
        "select invoked_by, invoked_by_id, invoked_by_service_name, invoked_by_target "
        "from sys_invocation where target = 'Box/called/put'",
    )
    assert row == {
        "invoked_by": "service",
        "invoked_by_id": filled.ids["chain"],
        "invoked_by_service_name": "Desk",
        "invoked_by_target": "Desk/chain",
    }


def test_what_backs_off_tells_why_and_until_when(filled: Filled, sql: Sql) -> None:
    id = filled.ids["backing"]
    row = one(sql, f"select * from sys_invocation_state where id = '{id}'")
    assert (row["in_flight"], row["retry_count"]) == (False, 1)
    assert row["last_failure"].startswith("[500 Internal] RuntimeError('for now')\nTraceback")
    assert row["last_failure_error_code"] == "RT0007"
    assert row["next_retry_at"] > one(sql, "select to_char(now(), '%Y') as y")["y"]
    assert one(sql, f"select retry_count, last_failure from sys_invocation where id = '{id}'") == {
        "retry_count": 1,
        "last_failure": row["last_failure"],
    }


def test_what_runs_tells_since_when_and_what_it_awaits(filled: Filled, sql: Sql) -> None:
    id = filled.ids["running"]
    row = one(sql, f"select * from sys_invocation_state where id = '{id}'")
    assert (row["in_flight"], row["retry_count"]) == (True, 1)
    assert row["last_start_at"][:2] == "20"
    assert row["last_awaiting_on_future_json"] == (
        '{"FirstCompleted":[{"Single":{"SignalIndex":17}},{"Single":{"SignalIndex":1}}]}'
    )


def test_what_is_suspended_tells_what_it_waits_for(filled: Filled, sql: Sql) -> None:
    row = one(
        sql,
        "select suspended_waiting_for_completions as c, suspended_waiting_for_signals as s, "
        "suspended_waiting_future_json as f, retry_count, last_failure from sys_invocation "
        f"where id = '{filled.ids['suspended']}'",
    )
    assert row == {
        "c": [1],
        "s": [1],
        "f": '{"FirstCompleted":[{"Single":{"CompletionId":1}},{"Single":{"SignalIndex":1}}]}',
    }


def test_a_delayed_send_tells_when_it_starts(filled: Filled, sql: Sql) -> None:
    row = one(
        sql,
        "select scheduled_at = created_at as at_once, "
        "cast(scheduled_start_at - scheduled_at as bigint) as ms "
        f"from sys_invocation where id = '{filled.ids['scheduled']}'",
    )
    assert row["at_once"] is True
    assert row["ms"] == 86_400_000


# ---- journals ------------------------------------------------------------------------------------


def test_a_journal_comes_in_order_with_names(filled: Filled, sql: Sql) -> None:
    rows = sql(
        "select index, entry_type, name, version from sys_journal "
        f"where id = '{filled.ids['chain']}'"
    )
    assert [(row["index"], row["entry_type"], row.get("name")) for row in rows] == [
        (0, "Command: Input", ""),
        (1, "Command: Call", ""),
        (2, "Notification: CallInvocationId", None),
        (3, "Notification: Call", None),
        (4, "Command: OneWayCall", ""),
        (5, "Notification: CallInvocationId", None),
        (6, "Command: Run", "shout"),
        (7, "Notification: Run", None),
        (8, "Command: Output", ""),
    ]
    assert {row["version"] for row in rows} == {2}


def test_a_sleep_is_told_as_the_timeline_reads_it(filled: Filled, sql: Sql) -> None:
    rows = sql(
        "select entry_lite_json as j, json_get_int(json_get_json(json_get_json(entry_lite_json, "
        f"'Command'), 'Sleep'), 'completion_id') as c from sys_journal "
        f"where id = '{filled.ids['suspended']}' and index = 1"
    )
    assert rows[0]["c"] == 1
    assert rows[0]["j"].startswith('{"Command":{"Sleep":{"wake_up_time":')


def test_raw_is_the_message_of_the_service_protocol(filled: Filled, sql: Sql) -> None:
    row = one(
        sql,
        "select raw, raw_length from sys_journal "
        f"where id = '{filled.ids['done']}' and entry_type = 'Command: Output'",
    )
    assert row == {"raw": "72050a03227622", "raw_length": 7}


def test_every_entry_has_the_moment_at_which_it_was_appended(filled: Filled, sql: Sql) -> None:
    for name in ("done", "chain", "suspended"):
        rows = sql(
            "select j.index, j.appended_at, j.appended_at >= i.created_at as after "
            "from sys_journal j join sys_invocation i on i.id = j.id "
            f"where j.id = '{filled.ids[name]}' order by j.index"
        )
        assert {row["after"] for row in rows} == {True}, rows
        moments = [row["appended_at"] for row in rows]
        assert moments == sorted(moments)


def test_entries_are_found_by_when_they_were_appended(filled: Filled, sql: Sql) -> None:
    among = f"from sys_journal where id = '{filled.ids['chain']}'"
    last = one(sql, f"select max(appended_at) as at {among}")["at"]
    later = one(sql, f"select count(*) as n {among} and appended_at > '{last}'")["n"]
    until = one(sql, f"select count(*) as n {among} and appended_at <= '{last}'")["n"]
    assert (later, until) == (0, one(sql, f"select count(*) as n {among}")["n"])


def test_all_journals_are_read_where_no_id_is_asked_for(sql: Sql) -> None:
    counted = one(sql, "select count(*) as n from sys_journal")["n"]
    stored = one(sql, "select sum(journal_size) as n from sys_invocation")["n"]
    assert counted == stored


def test_events_tell_the_error_and_the_pause(filled: Filled, sql: Sql) -> None:
    rows = sql(
        "select event_type, json_get_str(event_json, 'error_message') as m, "
        "json_get_str(json_get_json(event_json, 'last_failure'), 'error_message') as l, "
        "after_journal_entry_index as i from sys_journal_events "
        f"where id = '{filled.ids['paused']}'"
    )
    message = "RuntimeError('always')"
    assert rows == [
        {"event_type": "TransientError", "m": message, "i": 0},
        {"event_type": "Paused", "l": message, "i": 0},
    ]


# ---- keys ----------------------------------------------------------------------------------------


def test_state_has_both_readings_of_a_value(sql: Sql) -> None:
    rows = sql(
        "select key, key_length, value, value_utf8, value_length from state "
        "where service_name = 'Box' and service_key = 'a' order by key"
    )
    assert rows == [
        {"key": "raw", "key_length": 3, "value": "ff00", "value_length": 2},
        {
            "key": "value",
            "key_length": 5,
            "value": "227622",
            "value_utf8": '"v"',
            "value_length": 3,
        },
    ]


def test_state_is_the_same_whatever_the_condition(sql: Sql) -> None:
    whole = sql("select service_key, key from state order by service_key, key")
    keys = sorted({row["service_key"] for row in whole})
    listed = ", ".join(f"'{each}'" for each in keys)
    found = sql(
        "select service_key, key from state where service_name in ('Box', 'Nobody') "
        f"and service_key in ({listed}) order by service_key, key"
    )
    assert found == whole


def test_the_lock_and_the_queue_of_a_key(filled: Filled, sql: Sql) -> None:
    where = "service_name = 'Box' and service_key = 'locked'"
    assert sql(f"select invocation_id from sys_keyed_service_status where {where}") == [
        {"invocation_id": filled.ids["running"]}
    ]
    assert sql(f"select id from sys_inbox where {where}") == [{"id": filled.ids["pending"]}]
    assert sql("select id from sys_inbox") == [{"id": filled.ids["pending"]}]


def test_promises(sql: Sql) -> None:
    rows = sql(
        "select key, completed, completion_success_value_utf8 as v, completion_success_value as b "
        "from sys_promise where service_name = 'Flow' and service_key = 'w' order by key"
    )
    assert rows == [
        {"key": "go", "completed": True, "v": '"now"', "b": "226e6f7722"},
        {"key": "never", "completed": False},
    ]


def test_services_and_deployments(sql: Sql) -> None:
    deployment = one(sql, "select * from sys_deployment")
    assert deployment["services"] == ["Box", "Desk", "Flow"]
    assert sql(
        "select name, revision, public, ty, deployment_id from sys_service order by name"
    ) == [
        {"name": name, "revision": 1, "public": True, "ty": ty, "deployment_id": deployment["id"]}
        for name, ty in (("Box", "virtual_object"), ("Desk", "service"), ("Flow", "workflow"))
    ]
