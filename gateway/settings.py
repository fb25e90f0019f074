"""Every setting of the server: its name, type, default and unit. Shapes only, nothing is read here.

conf/perdure.toml says what each one means; a test keeps the two lists equal. Where values come
from, and what is wrong with a bad one: gateway/settings_sources.py.
"""

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

from perdure.journal.errors import PerdureError
from perdure.journal.schema import Defaults, OnMaxAttempts, RetryPolicy


class SettingsError(PerdureError):
    """A setting is unknown, has a bad value, or cannot be used here; the message says which."""


class Kind(StrEnum):
    """How the text of a setting is written; attached to its type."""

    DURATION = "a duration such as '1m 30s' or 'PT90S'"
    SIZE = "a size such as '32 MiB'"
    COUNT_OR_UNLIMITED = "a number from 1 up, or 'unlimited'"
    ADDRESS = "an address such as '127.0.0.1:8080' or '[::1]:8080'"


Millis: TypeAlias = Annotated[int, msgspec.Meta(extra={"kind": Kind.DURATION})]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(extra={"kind": Kind.SIZE})]
# A payload is one row of the store, which takes 72 MiB with its wrapping.
PayloadBytes: TypeAlias = Annotated[int, msgspec.Meta(le=64 << 20, extra={"kind": Kind.SIZE})]
Address: TypeAlias = Annotated[str, msgspec.Meta(extra={"kind": Kind.ADDRESS})]
Unlimited: TypeAlias = Annotated[int | None, msgspec.Meta(extra={"kind": Kind.COUNT_OR_UNLIMITED})]

_MIB = 1 << 20
_SECOND = 1000
_DAY = 86_400 * _SECOND


def _named(default: int, name: str) -> int:
    """A field whose attribute carries its unit and whose setting does not (the value says it)."""
    field: int = msgspec.field(default=default, name=name)
    return field


class LogFormat(StrEnum):
    HUMAN = "human"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SystemKind(StrEnum):
    EMBEDDED = "embedded"
    PROCESSES = "processes"


class OnExhausted(StrEnum):
    PAUSE = "pause"
    KILL = "kill"


class Ingress(msgspec.Struct, frozen=True):
    bind: Address = "127.0.0.1:8080"
    request_size_limit_bytes: PayloadBytes = _named(32 * _MIB, "request_size_limit")
    concurrent_requests_limit: int = 50_000
    connections_limit: int = 20_000
    connections_per_peer_limit: int = 20_000
    streams_per_connection_limit: int = 200
    header_timeout_ms: Millis = _named(10 * _SECOND, "header_timeout")
    idle_timeout_ms: Millis = _named(60 * _SECOND, "idle_timeout")
    body_rate_floor_bytes: Bytes = _named(128, "body_rate_floor")
    cors_origins: tuple[str, ...] = ("*",)


class Admin(msgspec.Struct, frozen=True):
    bind: Address = "127.0.0.1:9070"
    token: str = ""
    token_file: str = ""
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    concurrent_requests_limit: int = 1_000
    request_size_limit_bytes: PayloadBytes = _named(32 * _MIB, "request_size_limit")
    console: bool = True
    query_timeout_ms: Millis = _named(60 * _SECOND, "query_timeout")
    query_memory_limit_bytes: Bytes = _named(256 * _MIB, "query_memory_limit")


class Retry(msgspec.Struct, frozen=True):
    initial_interval_ms: Millis = _named(500, "initial_interval")
    factor: float = 2.0
    max_interval_ms: Millis = _named(60 * _SECOND, "max_interval")
    max_attempts: Unlimited = 70
    on_max_attempts: OnExhausted = OnExhausted.PAUSE


class Handlers(msgspec.Struct, frozen=True):
    inactivity_timeout_ms: Millis = _named(60 * _SECOND, "inactivity_timeout")
    abort_timeout_ms: Millis = _named(600 * _SECOND, "abort_timeout")
    journal_retention_ms: Millis = _named(_DAY, "journal_retention")
    idempotency_retention_ms: Millis = _named(_DAY, "idempotency_retention")
    workflow_retention_ms: Millis = _named(_DAY, "workflow_retention")
    lazy_state: bool = False
    threads: int = 32
    retry: Retry = Retry()


class Engine(msgspec.Struct, frozen=True):
    cleanup_interval_ms: Millis = _named(3600 * _SECOND, "cleanup_interval")
    idle_actor_timeout_ms: Millis = _named(60 * _SECOND, "idle_actor_timeout")
    open_attempts_limit: int = 10_000
    resident_attempts_limit: int = 500
    state_cache_size_bytes: Bytes = _named(64 * _MIB, "state_cache_size")
    mailbox_limit: int = 10_000
    in_flight_limit: int = 100_000
    restart_intensity: int = 5
    restart_window_ms: Millis = _named(10 * _SECOND, "restart_window")
    slow_handler_warning_ms: Millis = _named(500, "slow_handler_warning")
    shutdown_timeout_ms: Millis = _named(5 * _SECOND, "shutdown_timeout")


class Store(msgspec.Struct, frozen=True):
    write_buffer_size_bytes: Bytes = _named(16 * _MIB, "write_buffer_size")
    cache_size_bytes: Bytes = _named(32 * _MIB, "cache_size")
    max_file_size_bytes: Bytes = _named(8 * _MIB, "max_file_size")


class Deployments(msgspec.Struct, frozen=True):
    """``allow`` and ``deny``: see actors/remote/addresses.py."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    identity_key_file: str = ""
    cluster_name: str = "localcluster"
    newest_protocol_version: Annotated[int, msgspec.Meta(ge=5, le=7)] = 7
    message_size_limit_bytes: PayloadBytes = _named(32 * _MIB, "message_size_limit")
    discovery_timeout_ms: Millis = _named(10 * _SECOND, "discovery_timeout")
    tls_ca_file: str = ""
    connect_timeout_ms: Millis = _named(10 * _SECOND, "connect_timeout")
    ping_interval_ms: Millis = _named(40 * _SECOND, "ping_interval")
    ping_timeout_ms: Millis = _named(20 * _SECOND, "ping_timeout")
    connections_limit: int = 8
    streams_per_connection_limit: int = 128
    http1_connections_limit: int = 1024


class Supervisor(msgspec.Struct, frozen=True):
    """How the processes of ``system = "processes"`` are kept alive."""

    restart_intensity: int = 5
    restart_window_ms: Millis = _named(10 * _SECOND, "restart_window")
    longest_backoff_ms: Millis = _named(5 * _SECOND, "longest_backoff")
    start_timeout_ms: Millis = _named(300 * _SECOND, "start_timeout")
    stop_timeout_ms: Millis = _named(15 * _SECOND, "stop_timeout")
    heartbeat_interval_ms: Millis = _named(100, "heartbeat_interval")
    heartbeat_timeout_ms: Millis = _named(15 * _SECOND, "heartbeat_timeout")


class Plane(msgspec.Struct, frozen=True):
    """What gateways and partitions of ``system = "processes"`` may owe each other."""

    hold_ms: Millis = _named(30 * _SECOND, "hold")
    brief_hold_ms: Millis = _named(2 * _SECOND, "brief_hold")
    hold_limit: int = 10_000
    in_flight_limit: int = 100_000
    in_flight_size_limit_bytes: Bytes = _named(256 * _MIB, "in_flight_size_limit")
    frame_size_limit_bytes: Bytes = _named(256 * _MIB, "frame_size_limit")
    window: int = 4_096
    window_size_bytes: Bytes = _named(8 * _MIB, "window_size")


class Tracing(msgspec.Struct, frozen=True):
    """OpenTelemetry; needs the extra `perdure[otel]`. ``endpoint`` "": no spans are made."""

    endpoint: str = ""
    sample_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    service_name: str = "perdure"


class Log(msgspec.Struct, frozen=True):
    format: LogFormat = LogFormat.HUMAN
    level: LogLevel = LogLevel.INFO


class Settings(msgspec.Struct, frozen=True):
    """The whole tree, read only; hand the parts to whoever needs them."""

    data: str = "perdure-data"
    system: SystemKind = SystemKind.EMBEDDED
    partitions: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    gateways: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    ingress: Ingress = Ingress()
    admin: Admin = Admin()
    handlers: Handlers = Handlers()
    deployments: Deployments = Deployments()
    engine: Engine = Engine()
    store: Store = Store()
    supervisor: Supervisor = Supervisor()
    plane: Plane = Plane()
    log: Log = Log()
    tracing: Tracing = Tracing()

    def defaults(self) -> Defaults:
        """What the engine applies where neither handler nor service says otherwise."""
        handlers, retry = self.handlers, self.handlers.retry
        return Defaults(
            inactivity_timeout_ms=handlers.inactivity_timeout_ms,
            abort_timeout_ms=handlers.abort_timeout_ms,
            journal_retention_ms=handlers.journal_retention_ms,
            idempotency_retention_ms=handlers.idempotency_retention_ms,
            workflow_retention_ms=handlers.workflow_retention_ms,
            lazy_state=handlers.lazy_state,
            retry=RetryPolicy(
                initial_interval_ms=retry.initial_interval_ms,
                factor=retry.factor,
                max_interval_ms=retry.max_interval_ms,
                max_attempts=retry.max_attempts,
                on_max_attempts=OnMaxAttempts(retry.on_max_attempts.capitalize()),
            ),
        )
