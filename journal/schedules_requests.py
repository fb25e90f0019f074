"""What is asked of schedules and what is answered: between gateway, client, engine and machine.

Shapes, and the checks that need nothing but the request itself. What each means: docs/schedules.md.
"""

import re
from typing import Protocol, TypeAlias

import msgspec

from perdure.journal import schedules_times
from perdure.journal.errors import PerdureError
from perdure.journal.schedules_records import Overlap, Schedule, Spec
from perdure.journal.schedules_times import MAX_INTERVAL_MS

MAX_SCHEDULES = 10_000
MAX_BODY_BYTES = 64 << 10  # body and headers; so many that ten ticks fit into one group of a log
MAX_JITTER_MS = 86_400_000
MAX_BACKFILL_TICKS = 1_000
_MAX_TEXT_BYTES = 0xFFFF - 256  # of a key: a workflow's gets the tick's time behind it
_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")


class ScheduleRefused(PerdureError):
    """A request about a schedule that is not carried out. ``code`` is an HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


# ---- what the machine is asked ------------------------------------------------------------------


class Put(msgspec.Struct, frozen=True):
    """Create; with ``replace`` also change what is there."""

    spec: Spec
    replace: bool = False


class Declare(msgspec.Struct, frozen=True):
    """What the code of ``services`` declares, all of it: older ones of theirs go."""

    services: tuple[str, ...]
    specs: tuple[Spec, ...]


class Pause(msgspec.Struct, frozen=True):
    name: str
    reason: str


class Resume(msgspec.Struct, frozen=True):
    name: str


class Trigger(msgspec.Struct, frozen=True):
    """Asked for twice at one moment, it is one."""

    name: str
    asked_at_ms: int


class FillBack(msgspec.Struct, frozen=True):
    """Run the ticks from ``from_ms`` to ``until_ms``, both included: one after the other, or
    ``at_once``. Asked for twice at one moment, it is one."""

    name: str
    from_ms: int
    until_ms: int
    at_once: bool
    asked_at_ms: int


class Delete(msgspec.Struct, frozen=True):
    name: str


Ask: TypeAlias = Put | Declare | Pause | Resume | Trigger | FillBack | Delete


# ---- what it answers ----------------------------------------------------------------------------


class Refused(msgspec.Struct, frozen=True):
    """Becomes ``ScheduleRefused``."""

    code: int
    message: str


class Stored(msgspec.Struct, frozen=True):
    """The schedule as it is now."""

    schedule: Schedule
    is_new: bool = False


class Triggered(msgspec.Struct, frozen=True):
    invocation: bytes


class Filled(msgspec.Struct, frozen=True):
    tick_count: int


class Gone(msgspec.Struct, frozen=True):
    """Deleted, or declared."""


Answer: TypeAlias = Refused | Stored | Triggered | Filled | Gone


class Schedules(Protocol):
    """The schedules of a running engine. Changes are durable when a method returns.

    Every method but ``find`` and ``list`` raises ScheduleRefused; all may raise Overloaded or StoreError.
    """

    async def put(self, spec: Spec, replace: bool = False) -> Stored:
        """Create a schedule, or with ``replace`` change it. 400, 404 (target), 409."""

    async def find(self, name: str) -> Schedule | None:
        """None where there is none of this name."""

    async def list(self) -> list[Schedule]:
        """All of them, by name, without their bodies and headers."""

    async def pause(self, name: str, reason: str) -> Schedule:
        """No tick begins anything until it is resumed. 404."""

    async def resume(self, name: str) -> Schedule:
        """Go on with the next tick from now. 404."""

    async def trigger(self, name: str, asked_at_ms: int | None = None) -> str:
        """Run now, whatever else runs; the invocation's id. 404, 409 (target), 429.

        ``asked_at_ms``: the same for a request that is sent again; None: now.
        """

    async def backfill(
        self,
        name: str,
        from_ms: int,
        until_ms: int,
        at_once: bool = False,
        asked_at_ms: int | None = None,
    ) -> int:
        """Run ticks of the past; how many there are. 400, 404, 409, 429."""

    async def delete(self, name: str) -> None:
        """Its invocations stay. 404, 409 where code declares it."""


# ---- checks -------------------------------------------------------------------------------------


def is_name(text: str) -> bool:
    """Whether a schedule can have this name."""
    return _NAME.match(text) is not None


def no_schedule(name: str) -> ScheduleRefused:
    """404. What can't be a name is not repeated: it may be no text that could be written."""
    shown = f" '{name}'" if is_name(name) else " of that name, nor can there be one"
    return ScheduleRefused(404, f"there is no schedule{shown}")


def check(spec: Spec) -> None:
    """Raises ScheduleRefused (400) for what can never work."""
    if not is_name(spec.name):
        raise ScheduleRefused(
            400,
            f"'{spec.name}' can't name a schedule: 1 to 128 letters, digits, '.', '_' or '-' are "
            "expected, no '.' or '-' first",
        )
    try:
        schedules_times.check(spec.timing)
    except schedules_times.BadTiming as error:
        raise ScheduleRefused(400, str(error)) from None
    if not 0 <= spec.jitter_ms <= MAX_JITTER_MS:
        raise ScheduleRefused(400, "the jitter is at least zero and at most one day")
    if not 0 <= spec.catch_up_ms <= MAX_INTERVAL_MS:
        raise ScheduleRefused(400, "the catch-up window is at least zero and at most ten years")
    if len((spec.key or "").encode()) > _MAX_TEXT_BYTES:
        raise ScheduleRefused(400, f"the key has more than {_MAX_TEXT_BYTES} bytes")
    size = len(spec.body) + sum(len(n.encode()) + len(v.encode()) for n, v in spec.headers)
    if size > MAX_BODY_BYTES:
        raise ScheduleRefused(
            400, f"body and headers have {size} bytes, a schedule keeps at most {MAX_BODY_BYTES}"
        )


def check_range(from_ms: int, until_ms: int, now_ms: int) -> None:
    """Raises ScheduleRefused (400) for a range that is not one of the past."""
    if not 0 <= from_ms <= until_ms:
        raise ScheduleRefused(400, "a backfill begins before it ends")
    if until_ms > now_ms:
        raise ScheduleRefused(400, "a backfill runs ticks of the past; it ends at most now")


def policy_of(text: str) -> Overlap:
    """Raises ScheduleRefused (400)."""
    try:
        return Overlap(text)
    except ValueError:
        known = ", ".join(each.value for each in Overlap)
        raise ScheduleRefused(400, f"'{text}' is not an overlap policy: {known}") from None
