"""Bodies and answers of the admin API's schedules as types, for its OpenAPI document and the tests of it.

UNSET fields are left out where there is nothing to tell. What fills them: gateway/admin_schedules.py.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from perdure.gateway.admin_shapes import Shape

OverlapName = Literal["skip", "queue", "allow", "cancel"]


class ScheduleBody(Shape, frozen=True):
    """One of ``cron``, ``every`` and ``at``. ``name``: only where the path has none."""

    service: str
    handler: str
    key: str | None = None
    name: str | None = None
    cron: str | None = None
    time_zone: str = "UTC"
    every: str | None = None
    offset: str = "0"
    at: str | None = None
    body: msgspec.Raw | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    overlap: str = "skip"
    jitter: str = "0"
    catch_up: str = "1d"


class BackfillBody(Shape, frozen=True, rename={"from_": "from"}):
    """Both moments are included."""

    from_: str
    until: str
    at_once: bool = False


class Counts(Shape, frozen=True):
    started: int
    succeeded: int
    failed: int
    skipped: int
    missed: int


class BackfillShown(Shape, frozen=True):
    asked_at: str
    next_tick: str
    until: str
    at_once: bool


class BodyShown(Shape, frozen=True):
    base64: str
    json: object | UnsetType = UNSET


class ScheduleShown(Shape, frozen=True, kw_only=True):
    """``upcoming``, ``body`` and ``headers`` are not in the list of all."""

    name: str
    status: Literal["active", "paused", "finished"]
    target: str
    service: str
    handler: str
    key: str | UnsetType = UNSET
    cron: str | UnsetType = UNSET
    time_zone: str | UnsetType = UNSET
    every: str | UnsetType = UNSET
    offset: str | UnsetType = UNSET
    at: str | UnsetType = UNSET
    overlap: OverlapName
    jitter: str
    catch_up: str
    declared_by: str | UnsetType = UNSET
    created_at: str
    modified_at: str
    next_tick: str | UnsetType = UNSET
    last_tick: str | UnsetType = UNSET
    last_invocation_id: str | UnsetType = UNSET
    paused_reason: str | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    waiting_tick: str | UnsetType = UNSET
    running: list[str]
    counts: Counts
    backfills: list[BackfillShown]
    upcoming: list[str] | UnsetType = UNSET
    body: BodyShown | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET


class SchedulesShown(Shape, frozen=True):
    schedules: list[ScheduleShown]


class TriggeredShown(Shape, frozen=True):
    invocation_id: str


class FilledShown(Shape, frozen=True):
    tick_count: int
