"""Every query that the official command line sends (introspection 8), by what it reads from the answer."""

import pyarrow as pa
import pytest

from tests.gateway.sql.conftest import Filled, Sql

DETAIL = """SELECT inv.id, inv.target, inv.target_service_ty, inv.idempotency_key, inv.status,
  inv.created_at, inv.modified_at as state_modified_at, inv.pinned_deployment_id,
  inv.retry_count as num_retries, inv.last_failure as last_failure_message,
  inv.last_failure_related_entry_index as last_failure_entry_index,
  inv.last_failure_related_entry_name as last_failure_entry_name,
  inv.last_failure_related_entry_type as last_failure_entry_ty, inv.last_attempt_deployment_id,
  inv.last_attempt_server, inv.next_retry_at, inv.last_start_at, inv.invoked_by_id,
  inv.invoked_by_target, inv.trace_id, inv.completion_result, inv.completion_failure,
  dp.id IS NOT NULL as pinned_deployment_exists
FROM sys_invocation inv LEFT JOIN sys_deployment dp ON dp.id = inv.pinned_deployment_id
{filter} ORDER BY inv.created_at DESC, inv.id"""

FILTERS = {
    "status != 'completed'": {
        "running", "paused", "backing", "suspended", "scheduled", "workflow", "pending"
    },
    "inv.target_service_name IN ('Box') AND status != 'completed'": {"running", "pending"},
    "inv.target_handler_name IN ('hold')": {"running"},
    "inv.target_service_key IN ('locked')": {"running", "pending"},
    "inv.target_service_name IN (select name from sys_service where ty = 'workflow')": {"workflow"},
    "(inv.pinned_deployment_id IS NOT NULL AND inv.pinned_deployment_id NOT IN "
    "(select id from sys_deployment))": set(),
    "status IN ('running', 'backing-off') AND inv.target_service_name IN ('Desk', 'Box')": {
        "running", "backing"
    },
    "status = 'completed' AND inv.completion_result = 'failure'": {"refused"},
}  # fmt: skip


@pytest.mark.parametrize("condition", FILTERS)
def test_invocations_list(filled: Filled, sql: Sql, condition: str) -> None:
    count = (
        f"SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000) inv WHERE {condition}"
    )
    if "select" not in condition:  # as the command line writes it: the inner alias leaks
        count = count.replace(") inv WHERE", ") WHERE")
    answer = filled.query(count, "*/*")
    table = pa.ipc.open_stream(answer.content).read_all()
    listed = sql(
        f"SELECT id FROM sys_invocation inv WHERE {condition} "
        "ORDER BY inv.created_at DESC, inv.id LIMIT 100"
    )
    names = {id: name for name, id in filled.ids.items()}
    assert {names[row["id"]] for row in listed if row["id"] in names} == FILTERS[condition]
    assert table.column(0).to_pylist() == [len(listed)]


@pytest.mark.parametrize("order", ["DESC", "ASC"])
def test_invocations_come_by_age(sql: Sql, order: str) -> None:
    query = (
        "SELECT id FROM sys_invocation inv WHERE status != 'completed' "
        f"ORDER BY inv.created_at {order}, inv.id LIMIT {{}}"
    )
    assert sql(query.format(3)) == sql(query.format(100))[:3]


def test_details_have_what_the_reader_insists_on(filled: Filled, sql: Sql) -> None:
    ids = ", ".join(f"'{each}'" for each in filled.ids.values())
    rows = sql(DETAIL.format(filter=f"WHERE inv.id in ({ids})"))
    assert {row["id"] for row in rows} == set(filled.ids.values())
    for row in rows:
        assert {"id", "target", "target_service_ty", "created_at", "status"} <= set(row)
        assert row["pinned_deployment_exists"] is ("pinned_deployment_id" in row)


def test_invocations_describe(filled: Filled, sql: Sql) -> None:
    columns = (
        "SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'sys_journal' AND {}"
    )
    for names, count in (("'promise_name'", 1), ("'version', 'entry_json', 'appended_at'", 3)):
        answer = filled.query(columns.format(f"column_name IN ({names})"), "*/*")
        assert pa.ipc.open_stream(answer.content).read_all().column(0).to_pylist() == [count]
    rows = sql(
        "SELECT sj.index, sj.entry_type, sj.completed, sj.invoked_id, sj.invoked_target, "
        "sj.sleep_wakeup_at, sj.name, sj.promise_name, sj.version, sj.entry_json, sj.appended_at "
        f"FROM sys_journal sj WHERE sj.id = '{filled.ids['chain']}' ORDER BY index DESC LIMIT 100"
    )
    assert [row["index"] for row in rows] == list(range(8, -1, -1))
    assert all(row["version"] == 2 and row["entry_type"] for row in rows)


OPERATIONS = {
    "id = '{running}' AND status != 'completed'": {"running"},
    "target LIKE 'Box/%' AND status != 'completed'": {"running", "pending"},
    "((target = 'Desk/refuse' AND target_service_ty = 'service') OR (target LIKE 'Desk/refuse/%' "
    "AND target_service_ty != 'service')) AND status = 'completed'": {"refused"},
    "target LIKE 'Box/locked/hold' AND status IN ('invoked', 'suspended')": {"running"},
    "target LIKE 'Desk/%' AND status IN ('paused', 'invoked', 'suspended')": {
        "paused", "backing", "suspended"
    },
}  # fmt: skip


@pytest.mark.parametrize("condition", OPERATIONS)
def test_operations_find_their_targets(filled: Filled, sql: Sql, condition: str) -> None:
    where = condition.format(**filled.ids)
    rows = sql(f"SELECT id, target FROM sys_invocation_status WHERE {where} LIMIT 500")
    names = {id: name for name, id in filled.ids.items()}
    assert {names[row["id"]] for row in rows} == OPERATIONS[condition]


def test_services_status(filled: Filled, sql: Sql) -> None:
    pending = sql(
        "SELECT target_service_name, target_handler_name, COUNT(1) as num_invocations, "
        "MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as oldest_invocation "
        "FROM sys_invocation_status WHERE status == 'inboxed' AND target_service_name IN ('Box') "
        "GROUP BY target_service_name, target_handler_name"
    )
    assert [(row["num_invocations"], row["oldest_invocation"]) for row in pending] == [
        (1, filled.ids["pending"])
    ]
    states = sql(
        "SELECT target_service_name, target_handler_name, status, COUNT(1) as num_invocations, "
        "MIN(created_at) as oldest_at, FIRST_VALUE(id ORDER BY created_at ASC) as oldest_invocation "
        "FROM sys_invocation WHERE target_service_name IN ('Box') GROUP BY target_service_name, "
        "target_handler_name, status ORDER BY target_handler_name"
    )
    found = {(row["target_handler_name"], row["status"]): row["num_invocations"] for row in states}
    assert found == {("hold", "running"): 1, ("put", "pending"): 1, ("put", "completed"): 2}
    queue = sql(
        "SELECT service_name, service_key, COUNT(1) as num_pending FROM sys_inbox WHERE service_name "
        "IN ('Box') GROUP BY service_name, service_key ORDER BY num_pending DESC"
    )
    assert queue == [{"service_name": "Box", "service_key": "locked", "num_pending": 1}]


def test_active_keys(filled: Filled, sql: Sql) -> None:
    firsts = ", ".join(
        f"first_value({column}) as {column}"
        for column in (
            "id",
            "target_handler_name",
            "created_at",
            "modified_at",
            "pinned_deployment_id",
            "last_attempt_deployment_id",
            "last_failure",
            "next_retry_at",
            "last_start_at",
        )
    )
    rows = sql(
        f"SELECT target_service_name, target_service_key, status, {firsts}, 0 as num_pending, "
        "sum(retry_count) as num_retries FROM sys_invocation WHERE status != 'pending' AND "
        "target_service_name IN ('Box') AND target_service_key = 'locked' "
        "GROUP BY target_service_name, target_service_key, status"
    )
    assert [(row["id"], row["status"], row["num_pending"], row["num_retries"]) for row in rows] == [
        (filled.ids["running"], "running", 0, 1)
    ]


def test_deployments(filled: Filled, sql: Sql) -> None:
    (deployment,) = sql("select id from sys_deployment")
    where = f"pinned_deployment_id = '{deployment['id']}' AND status != 'completed'"
    answer = filled.query(
        f"SELECT COUNT(1) AS inv_count FROM sys_invocation_status WHERE {where}", "*/*"
    )
    count = pa.ipc.open_stream(answer.content).read_all().column(0).to_pylist()[0]
    by_handler = sql(
        "SELECT target_service_name as service, target_handler_name as handler, COUNT(1) AS inv_count "
        f"FROM sys_invocation_status WHERE {where} "
        "GROUP BY pinned_deployment_id, target_service_name, target_handler_name"
    )
    assert count == sum(row["inv_count"] for row in by_handler) > 0


def test_state_get_and_clear(sql: Sql) -> None:
    rows = sql("select key, value from state where service_name = 'Box' and service_key = 'a' ;")
    assert {row["key"]: row["value"] for row in rows} == {"raw": "ff00", "value": "227622"}
    rows = sql("SELECT service_name, service_key, key, value FROM state WHERE service_name = 'Box'")
    assert {row["service_key"] for row in rows} == {"a", "called"}


def test_rules_and_virtual_queues(sql: Sql) -> None:
    columns = "pattern, concurrency, description, disabled, version, last_modified"
    assert sql(f"SELECT {columns} FROM sys_rules ORDER BY pattern") == []
    assert sql(f"SELECT {columns} FROM sys_rules WHERE pattern = 'x'") == []
    meta = (
        "id, is_active, queue_is_paused, service_name, scope, limit_key, lock_name, created_at, "
        "last_enqueued_at, last_start_at, last_attempt_at, last_finish_at, num_inbox, num_running, "
        "num_suspended, num_paused, num_finished"
    )
    assert sql(f"SELECT {meta} FROM sys_vqueue_meta LIMIT 100") == []
    assert sql(f"SELECT {meta} FROM sys_vqueue_meta WHERE id = 'vq_1'") == []
    entry = "entry_id, entry_kind, stage, status, has_lock, created_at, num_attempts, deployment"
    query = (
        f"SELECT {entry} FROM sys_vqueues WHERE id = 'vq_1' ORDER BY sequence_number DESC LIMIT 100"
    )
    assert sql(query) == []
