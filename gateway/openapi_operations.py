"""What the admin API's OpenAPI document says of each operation beside its path: bodies, queries, answers.

Types, never texts of schemas: those are made of the types. An operation is known by its name in the table
of routes; add a line here with a new route.
"""

from typing import Any, Final, get_args

import msgspec

from perdure.gateway import admin_invocations as invocations
from perdure.gateway import admin_schedule_shapes as schedules
from perdure.gateway import admin_shapes as shapes
from perdure.gateway import deployment_models as deployments
from perdure.gateway import kafka
from perdure.gateway.admin_code import DeployBody
from perdure.gateway.admin_state import MutationBody
from perdure.gateway.limit_rules import Deletion, RuleBody, RuleShown
from perdure.gateway.sql.endpoint import ARROW, QueryBody, QueryRows
from perdure.gateway.versions import Deployed
from perdure.journal.inspecting import Tree

Json = dict[str, Any]


class Described(msgspec.Struct, frozen=True):
    """``answers``: status to the type of its body, None where that is empty.

    ``query``: name of a parameter to its JSON schema. ``binary``: the content type in which a 200 comes
    unless JSON is accepted, and what is in it.
    """

    summary: str
    body: Any = None
    answers: dict[int, Any] = {}
    query: dict[str, Json] = {}
    binary: tuple[str, str] | None = None


_FLAG: Final[Json] = {"type": "boolean"}
_TEXT: Final[Json] = {"type": "string"}
_DEPLOYMENT: Final[Json] = {
    "type": "string",
    "description": "keep, latest, or the id of a deployment",
}
_STATUSES: Final[Json] = {"enum": list(get_args(shapes.Status))}
_OBJECT = dict[str, object]

OPERATIONS: Final[dict[str, Described]] = {
    "schedules": Described("All schedules, by name", answers={200: schedules.SchedulesShown}),
    "create_schedule": Described(
        "Create a schedule",
        body=schedules.ScheduleBody,
        answers={201: schedules.ScheduleShown},
    ),
    "schedule": Described("One schedule", answers={200: schedules.ScheduleShown}),
    "put_schedule": Described(
        "Create or change a schedule",
        body=schedules.ScheduleBody,
        answers={200: schedules.ScheduleShown, 201: schedules.ScheduleShown},
    ),
    "delete_schedule": Described("Delete a schedule", answers={200: None}),
    "pause_schedule": Described(
        "Begin nothing until it is resumed",
        answers={200: schedules.ScheduleShown},
        query={"reason": _TEXT},
    ),
    "resume_schedule": Described(
        "Go on with the next tick", answers={200: schedules.ScheduleShown}
    ),
    "trigger_schedule": Described("Run now", answers={202: schedules.TriggeredShown}),
    "backfill_schedule": Described(
        "Run ticks of the past",
        body=schedules.BackfillBody,
        answers={202: schedules.FilledShown},
    ),
    "health": Described("Whether the admin API is up", answers={200: None}),
    "version": Described("Version, addresses, features", answers={200: shapes.Version}),
    "cluster_health": Described("Members of the cluster", answers={200: shapes.ClusterHealth}),
    "openapi": Described("This document", answers={200: _OBJECT}),
    "register": Described(
        "Register a deployment",
        body=deployments.RegisterBody,
        answers={200: shapes.RegisteredDeployment, 201: shapes.RegisteredDeployment},
    ),
    "deployments": Described("All deployments", answers={200: shapes.Deployments}),
    "deployment": Described("One deployment", answers={200: shapes.DetailedDeployment}),
    "update_deployment": Described(
        "Change a deployment",
        body=deployments.UpdateBody,
        answers={200: shapes.DetailedDeployment},
    ),
    "replace_deployment": Described(
        "Change a deployment; only under /v2",
        body=deployments.UpdateBody,
        answers={200: shapes.DetailedDeployment},
    ),
    "delete_deployment": Described(
        "Forget a deployment; 501 without force",
        answers={202: None, 501: None},
        query={"force": _FLAG},
    ),
    "services": Described("All services, at their latest revision", answers={200: shapes.Services}),
    "service": Described("One service", answers={200: shapes.ServiceMetadata}),
    "patch_service": Described(
        "Change options of a service",
        body=deployments.PatchBody,
        answers={200: shapes.ServiceMetadata},
    ),
    "handlers": Described("The handlers of a service", answers={200: shapes.Handlers}),
    "handler": Described("One handler", answers={200: shapes.HandlerMetadata}),
    "service_openapi": Described("The OpenAPI document of a service", answers={200: _OBJECT}),
    "mutate_state": Described("Replace the state of a key", body=MutationBody, answers={202: None}),
    "state": Described("The state of a key", answers={200: shapes.State}),
    "invocations": Described(
        "Invocations that fit every filter",
        answers={200: shapes.Invocations},
        query={
            "service": _TEXT,
            "handler": _TEXT,
            "key": _TEXT,
            "status": _STATUSES,
            "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
        },
    ),
    "invocation": Described("One invocation", answers={200: shapes.Invocation}),
    "journal": Described("The journal of an invocation", answers={200: shapes.Journal}),
    "recording": Described("All that a replay of an invocation needs", answers={200: _OBJECT}),
    "tree": Described(
        "The supervision tree",
        answers={200: Tree},
        query={"limit": {"type": "integer", "minimum": 1, "maximum": 10_000}},
    ),
    "metrics": Described("What is counted, in the formats of Prometheus", answers={200: None}),
    "query": Described(
        "Rows of one SQL statement: JSON where exactly that is accepted, else an Arrow stream",
        body=QueryBody,
        answers={200: QueryRows},
        binary=(ARROW, "an Arrow IPC stream: the schema, record batches, the end"),
    ),
    "operate": Described(
        "Cancel, kill, pause, resume or purge an invocation",
        answers={200: None, 202: None},
        query={"deployment": _DEPLOYMENT},
    ),
    "restart_as_new": Described(
        "Run a completed invocation again, as a new one",
        answers={200: invocations.NewInvocation},
        query={"from": {"type": "integer", "minimum": 0}, "deployment": _DEPLOYMENT},
    ),
    "deploy_code": Described(
        "Take the present code of the server's targets as a new version",
        body=DeployBody,
        answers={200: Deployed, 201: Deployed},
    ),
    "fork": Described(
        "Run a completed invocation again, from an edited prefix of its journal",
        body=invocations.ForkBody,
        answers={200: invocations.NewInvocation},
    ),
    "delete_invocation": Described(
        "Deprecated: cancel, kill or purge an invocation",
        answers={202: None},
        query={"mode": {"enum": ["cancel", "kill", "purge"]}},
    ),
    "batch": Described(
        "One operation on up to 1000 invocations",
        body=invocations.BatchBody,
        answers={200: invocations.BatchAnswer},
    ),
    "serde": Described(
        "Ask a deployment to decode or encode a payload",
    ),
    "put_rules": Described(
        "Add or change limit rules, all of them or none",
        body=list[RuleBody],
        answers={200: list[RuleShown]},
    ),
    "delete_rules": Described(
        "Remove limit rules, all of them or none",
        body=list[Deletion],
        answers={200: list[str]},
    ),
    "operate_vqueue": Described(
        "Pause or resume a virtual queue",
        answers={202: None},
    ),
    "create_cluster": Described(
        "Add a Kafka cluster", body=kafka.ClusterBody, answers={201: kafka.ClusterShown}
    ),
    "clusters": Described("All Kafka clusters", answers={200: kafka.Clusters}),
    "cluster": Described(
        "One Kafka cluster",
        answers={200: kafka.ClusterShown},
        query={"include_subscriptions": _FLAG},
    ),
    "update_cluster": Described(
        "Replace the properties of a Kafka cluster",
        body=kafka.ClusterUpdate,
        answers={200: kafka.ClusterShown},
    ),
    "delete_cluster": Described(
        "Remove a Kafka cluster", answers={202: None}, query={"force": _FLAG}
    ),
    "create_subscription": Described(
        "Add a subscription", body=kafka.SubscriptionBody, answers={201: kafka.SubscriptionShown}
    ),
    "subscriptions": Described(
        "Subscriptions with this source and sink",
        answers={200: kafka.Subscriptions},
        query={"source": _TEXT, "sink": _TEXT},
    ),
    "subscription": Described("One subscription", answers={200: kafka.SubscriptionShown}),
    "delete_subscription": Described("Remove a subscription", answers={202: None}),
}
