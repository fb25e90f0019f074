"""Schedules in code: the decorator ``perdure.schedule``, and ``system.schedules`` of an embedded system.

    @perdure.schedule(cron="0 3 * * *", timezone="Europe/Berlin")
    @reports.handler()
    async def nightly(ctx: perdure.Context) -> None: ...

What is given here becomes a ``Spec``; when its ticks are and what they begin is the machine's matter.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from perdure.codecs_of_schedules import body_of
