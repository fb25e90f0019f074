"""The tables and columns that SQL shows, as data. Names, types and order: introspection 6. Pure.

Where a column's value comes from is in the ``rows_*`` files; a test keeps the two in step.
"""

from enum import Enum
from typing import Final, TypeAlias


class Kind(Enum):
    """What a column holds; gateway/sql/batches.py maps each to its Arrow type."""

    TEXT = "text"
    BYTES = "bytes"
    BOOL = "bool"
    U32 = "u32"
    U64 = "u64"
    TIME = "time"  # milliseconds since the Unix epoch, UTC
    SPAN = "span"  # milliseconds
    U32_LIST = "u32 list"
    TEXT_LIST = "text list"


Columns: TypeAlias = dict[str, Kind]

TEXT, BYTES, BOOL, U32, U64 = Kind.TEXT, Kind.BYTES, Kind.BOOL, Kind.U32, Kind.U64
TIME, SPAN, U32_LIST, TEXT_LIST = Kind.TIME, Kind.SPAN, Kind.U32_LIST, Kind.TEXT_LIST


def _columns(kind: Kind, names: str) -> Columns:
    return dict.fromkeys(names.split(), kind)


_TARGET: Final[Columns] = _columns(
    TEXT,
    "target target_service_name target_service_key target_handler_name target_service_ty scope "
    "limit_key idempotency_key",
)
_LIFE: Final[Columns] = {
    **_columns(TEXT, "pinned_deployment_id"),
    "pinned_service_protocol_version": U32,
    "trace_id": TEXT,
    **_columns(U32, "journal_size journal_commands_size"),
    "created_at": TIME,
    "created_using_restate_version": TEXT,
    **_columns(TIME, "modified_at inboxed_at scheduled_at scheduled_start_at"),
    **_columns(TIME, "running_at completed_at"),
    **_columns(SPAN, "completion_retention journal_retention"),
    **_columns(U32_LIST, "suspended_waiting_for_completions suspended_waiting_for_signals"),
    "suspended_waiting_future_json": TEXT,
}
_ATTEMPTS: Final[Columns] = {
    "retry_count": U64,
    **_columns(TIME, "last_start_at next_retry_at"),
    **_columns(
        TEXT, "last_attempt_deployment_id last_attempt_server last_failure last_failure_error_code"
    ),
    "last_failure_related_entry_index": U64,
    **_columns(TEXT, "last_failure_related_entry_name last_failure_related_entry_type"),
    "last_failure_related_command_index": U64,
    **_columns(
        TEXT,
        "last_failure_related_command_name last_failure_related_command_type "
        "last_awaiting_on_future_json",
    ),
}
_BLOCKED_ON: Final = (
    "invoker_concurrency", "throttling_rules", "invoker_throttling", "invoker_memory",
    "concurrency_rules", "lock", "deployment_concurrency",
)  # fmt: skip

TABLES: Final[dict[str, Columns]] = {
    "sys_invocation": {
        **_columns(TEXT, "id vqueue_id"),
        **_TARGET,
        **_columns(
            TEXT,
            "invoked_by invoked_by_service_name invoked_by_id invoked_by_target "
            "invoked_by_subscription_id restarted_from",
        ),
        **_LIFE,
        **_ATTEMPTS,
        **_columns(TEXT, "status completion_result completion_failure"),
    },
    "sys_invocation_status": {
        "partition_key": U64,
        **_columns(TEXT, "id vqueue_id status completion_result completion_failure"),
        **_TARGET,
        **_columns(
            TEXT,
            "invoked_by invoked_by_id invoked_by_subscription_id invoked_by_service_name "
            "invoked_by_target restarted_from",
        ),
        **_LIFE,
    },
    "sys_invocation_state": {
        "partition_key": U64,
        "id": TEXT,
        "in_flight": BOOL,
        "retry_count": U64,
        "last_start_at": TIME,
        **_columns(TEXT, "last_attempt_deployment_id last_attempt_server"),
        "next_retry_at": TIME,
        **_columns(TEXT, "last_failure last_failure_error_code"),
        "last_failure_related_command_index": U64,
        **_columns(TEXT, "last_failure_related_command_name last_failure_related_command_type"),
        "last_failure_related_entry_index": U64,
        **_columns(TEXT, "last_failure_related_entry_name last_failure_related_entry_type"),
        "last_awaiting_on_future_json": TEXT,
    },
    "sys_journal": {
        "partition_key": U64,
        "id": TEXT,
        "index": U32,
        **_columns(TEXT, "entry_type name"),
        "completed": BOOL,
        **_columns(TEXT, "invoked_id invoked_target"),
        "sleep_wakeup_at": TIME,
        "promise_name": TEXT,
        "raw": BYTES,
        "raw_length": U64,
        "version": U32,
        **_columns(TEXT, "entry_json entry_lite_json"),
        "appended_at": TIME,
    },
    "sys_journal_events": {
        "partition_key": U64,
        "id": TEXT,
        "after_journal_entry_index": U32,
        "appended_at": TIME,
        **_columns(TEXT, "event_type event_json"),
    },
    "state": {
        "partition_key": U64,
        **_columns(TEXT, "scope service_name service_key key"),
        "key_length": U64,
        "value_utf8": TEXT,
        "value": BYTES,
        "value_length": U64,
    },
    "sys_inbox": {
        "partition_key": U64,
        **_columns(TEXT, "service_name service_key id"),
        "sequence_number": U64,
        "created_at": TIME,
    },
    "sys_keyed_service_status": {
        "partition_key": U64,
        **_columns(TEXT, "service_name service_key invocation_id"),
    },
    "sys_locks": {
        "partition_key": U64,
        **_columns(TEXT, "scope lock_name"),
        "acquired_at": TIME,
        "acquired_by": TEXT,
    },
    "sys_promise": {
        "partition_key": U64,
        **_columns(TEXT, "scope service_name service_key key"),
        "completed": BOOL,
        "completion_success_value": BYTES,
        **_columns(TEXT, "completion_success_value_utf8 completion_failure"),
    },
    "partitions": {  # ours: not in the specification
        "partition_id": U32,
        **_columns(U64, "start_key end_key"),
        **_columns(TEXT, "state reason"),
        **_columns(U64, "epoch position size_bytes open_attempts"),
    },
    "sys_service": {
        "name": TEXT,
        "revision": U64,
        "public": BOOL,
        **_columns(TEXT, "ty deployment_id"),
    },
    "sys_deployment": {
        **_columns(TEXT, "id ty endpoint"),
        "created_at": TIME,
        **_columns(U32, "min_service_protocol_version max_service_protocol_version"),
        "services": TEXT_LIST,
    },
    "sys_rules": {
        "pattern": TEXT,
        "concurrency": U32,
        "description": TEXT,
        "disabled": BOOL,
        "version": U32,
        "last_modified": TIME,
    },
    "sys_user_limits": {
        "partition_key": U64,
        **_columns(TEXT, "scope l1 l2 level"),
        **_columns(U32, "usage concurrency_limit"),
        "rule_pattern": TEXT,
        "available": U32,
        "num_waiters": U64,
    },
    "sys_scheduler": {
        "partition_key": U64,
        "id": TEXT,
        "num_inbox": U64,
        **_columns(TEXT, "status head_entry_id"),
        "scheduled_at": TIME,
        **_columns(TEXT, "blocked_on blocked_on_json"),
        **_columns(SPAN, " ".join(f"{each}_block_duration" for each in _BLOCKED_ON)),
    },
    "sys_vqueue_meta": {
        "partition_key": U64,
        "id": TEXT,
        **_columns(BOOL, "is_active queue_is_paused"),
        **_columns(TEXT, "service_name scope limit_key lock_name"),
        **_columns(
            TIME, "created_at last_enqueued_at last_start_at last_attempt_at last_finish_at"
        ),
        **_columns(
            SPAN,
            "avg_queue_duration avg_inbox_duration avg_run_duration avg_suspension_duration "
            "avg_end_to_end_duration avg_blocked_on_concurrency_rules "
            "avg_blocked_on_invoker_concurrency avg_blocked_on_invoker_throttling "
            "avg_blocked_on_lock",
        ),
        **_columns(U64, "num_inbox num_running num_suspended num_paused num_finished"),
    },
    "sys_vqueues": {
        "partition_key": U64,
        **_columns(TEXT, "id stage status"),
        "has_lock": BOOL,
        "run_at": TIME,
        "sequence_number": U64,
        **_columns(TEXT, "entry_id entry_kind"),
        **_columns(TIME, "created_at transitioned_at"),
        **_columns(U32, "num_attempts num_errors num_pauses num_suspensions num_yields"),
        **_columns(TIME, "first_attempt_at latest_attempt_at first_runnable_at"),
        "deployment": TEXT,
    },
    "sys_vqueue_entry_status": {
        "partition_key": U64,
        **_columns(TEXT, "entry_id vqueue_id stage status"),
        "has_lock": BOOL,
        "next_at": TIME,
        "sequence_number": U64,
        "entry_kind": TEXT,
        **_columns(TIME, "created_at transitioned_at"),
        **_columns(U32, "num_attempts num_errors num_pauses num_suspensions num_yields"),
        **_columns(TIME, "first_attempt_at latest_attempt_at first_runnable_at"),
        "deployment": TEXT,
        "needed_memory": U64,
        **_columns(U32, "retry_attempts retry_count_since_last_stored_command"),
        **_columns(SPAN, " ".join(f"latest_attempt_blocked_on_{each}" for each in _BLOCKED_ON)),
        **_columns(SPAN, " ".join(f"total_blocked_on_{each}" for each in _BLOCKED_ON)),
    },
}
