"""Schedules in code: the decorator ``perdure.schedule``, and ``schedules`` of an embedded system.

    @perdure.schedule(cron="0 3 * * *", timezone="Europe/Berlin")
    @reports.handler()
    async def nightly(ctx: perdure.Context) -> None: ...

What is given here becomes a ``Spec``; when its ticks are and what they begin is the machine's matter.
What each option means: docs/schedules.md.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from msgspec.structs import replace as changed

from perdure.definition import Definition
from perdure.entry_codec import JournalValueCodec
from perdure.handler import REQUIRED, Handler, encode_argument, handler_from_callable
from perdure.journal.errors import UsageError
from perdure.journal.schedules_records import Cron, Interval, Once, Schedule, Spec, Timing
from perdure.journal.schedules_requests import Declare, ScheduleRefused, check, policy_of
from perdure.journal.schedules_times import ms_of
from perdure.options import check_duration

if TYPE_CHECKING:
    from perdure.actors.schedules import EngineSchedules

T = TypeVar("T")
OverlapPolicy: TypeAlias = Literal["skip", "queue", "allow", "cancel"]

_NOTHING = timedelta(0)
_MS = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_NOT_GIVEN: Any = object()
_NOT_FOUND = 404


def schedule(
    *,
    cron: str | None = None,
    every: timedelta | None = None,
    at: datetime | None = None,
    timezone: str = "UTC",
    offset: timedelta = _NOTHING,
    name: str | None = None,
    key: str | None = None,
    arg: Any = _NOT_GIVEN,
    headers: dict[str, str] | None = None,
    jitter: timedelta = _NOTHING,
    overlap: OverlapPolicy = "skip",
    catch_up: timedelta = _DAY,
) -> Callable[[T], T]:
    """Decorate a handler so that it runs by itself: ``cron``, ``every`` or ``at``, one of them.

    - ``cron``: five fields, or six with the second first, in ``timezone``; `@daily` and the like
    - ``every``: at every multiple of it since 1970 in UTC, ``offset`` later
    - ``at``: once; a moment without an offset of its own is in ``timezone``
    - ``name``: unique; by default `Service.handler`
    - ``key``: of the object; of a workflow, the beginning of its runs' keys
    - ``arg``, ``headers``: what each tick passes
    - ``jitter``: begin up to so much later, always the same for the same tick
    - ``overlap``: what a tick does while an older one runs
    - ``catch_up``: ticks that could not run in time still do, up to so much later

    Goes above `@….handler()`. Raises UsageError.
    """

    def decorate(fn: T) -> T:
        handler = _handler_of(fn)
        spec = spec_of(
            handler, cron=cron, every=every, at=at, timezone=timezone, offset=offset, name=name, key=key,
            arg=arg, headers=headers, jitter=jitter, overlap=overlap, catch_up=catch_up,
        )  # fmt: skip
        if any(each.name == spec.name for each in handler.schedules):
            raise UsageError(
                f"{handler.qualified_name} has a schedule {spec.name!r} already: give this one a "
                "name of its own, name="
            )
        handler.schedules.append(changed(spec, owner=handler.service_tag.name))
        return fn

    return decorate


def _handler_of(fn: Any) -> Handler[Any, Any]:
    try:
        return handler_from_callable(fn)
    except ValueError:
        name = getattr(fn, "__qualname__", repr(fn))
        raise UsageError(
            f"{name} is not a handler (yet): @perdure.schedule(...) goes above @….handler()"
        ) from None


def spec_of(
    handler: Handler[Any, Any],
    *,
    cron: str | None,
    every: timedelta | None,
    at: datetime | None,
    timezone: str,
    offset: timedelta,
    name: str | None,
    key: str | None,
    arg: Any,
    headers: dict[str, str] | None,
    jitter: timedelta,
    overlap: str,
    catch_up: timedelta,
) -> Spec:
    """What the options of ``schedule`` say. Raises UsageError."""
    where = f"a schedule of {handler.qualified_name}"
    for option, span in (("every", every), ("offset", offset), ("jitter", jitter)):
        check_duration(where, option, span)
    check_duration(where, "catch_up", catch_up)
    kind = handler.service_tag.kind
    if key is None and kind != "service" and handler.kind != "workflow":
        raise UsageError(f"{where} needs the key of the {kind}: give key=")
    if key is not None and kind == "service":
        raise UsageError(f"{where} takes no key: a service has none")
    try:
        spec = Spec(
            f"{handler.service_tag.name}.{handler.name}" if name is None else name,
            _timing(where, cron, every, at, timezone, offset),
            handler.service_tag.name,
            handler.name,
            key,
            _body(where, handler, arg),
            tuple((each.lower(), value) for each, value in (headers or {}).items()),
            policy_of(overlap),
            jitter // _MS,
            catch_up // _MS,
        )
        check(spec)
    except ScheduleRefused as error:
        raise UsageError(f"{where}: {error}") from None
    return spec


def _timing(
    where: str,
    cron: str | None,
    every: timedelta | None,
    at: datetime | None,
    timezone: str,
    offset: timedelta,
) -> Timing:
    given = [each for each in (cron, every, at) if each is not None]
    if len(given) != 1:
        raise UsageError(f"{where} needs one of cron=, every= and at=, not {len(given)} of them")
    if every is not None:
        return Interval(every // _MS, offset // _MS)
    if offset:
        raise UsageError(f"{where}: offset= is for every=")
    if cron is not None:
        return Cron(cron, timezone)
    assert at is not None
    if at.tzinfo is None:
        try:
            at = at.replace(tzinfo=ZoneInfo(timezone))
        except (ValueError, OSError, KeyError):
            raise UsageError(
                f"{where}: there is no time zone {timezone!r} on this machine"
            ) from None
    return Once(ms_of(at))


def _body(where: str, handler: Handler[Any, Any], arg: Any) -> bytes:
    if arg is not _NOT_GIVEN:
        return encode_argument(handler, arg)
    if handler.arity > 1 and handler.empty_input is REQUIRED:
        raise UsageError(f"{where} needs the handler's argument: give arg=")
    return b""


# ---- what a program declares --------------------------------------------------------------------


def declared(definitions: Iterable[Definition], codec: JournalValueCodec | None) -> Declare:
    """All that the handlers of ``definitions`` say. Raises UsageError for a name that is there twice."""
    specs: dict[str, Spec] = {}
    services = []
    for definition in definitions:
        services.append(definition.name)
        for handler in definition.handlers.values():
            for spec in handler.schedules:
                other = specs.setdefault(spec.name, spec)
                if other is not spec:
                    raise UsageError(
                        f"{other.service}/{other.handler} and {spec.service}/{spec.handler} have "
                        f"schedules named {spec.name!r}: names are unique, give one of them another"
                    )
                specs[spec.name] = _encoded(spec, handler, codec)
    return Declare(tuple(services), tuple(specs.values()))


def _encoded(spec: Spec, handler: Handler[Any, Any], codec: JournalValueCodec | None) -> Spec:
    if codec is None or handler.arity == 1:
        return spec
    return changed(spec, body=codec.encode(spec.body))


# ---- a running system ---------------------------------------------------------------------------


class Asked(Protocol):
    """Calls once or, where crashes are part of a test, until there is an answer."""

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T: ...


class SystemSchedules:
    """The schedules of an embedded system. Changes are durable when a method returns.

    Raises ScheduleRefused: its ``code`` is the status that the admin API answers with. ``engine``: that
    of the engine as it is now; after a crash it is another one.
    """

    def __init__(
        self, engine: Callable[[], "EngineSchedules"], asked: Asked, codec: JournalValueCodec | None
    ) -> None:
        self._engine = engine
        self._asked = asked
        self._codec = codec

    async def create(
        self,
        handler: Callable[..., Any],
        *,
        cron: str | None = None,
        every: timedelta | None = None,
        at: datetime | None = None,
        timezone: str = "UTC",
        offset: timedelta = _NOTHING,
        name: str | None = None,
        key: str | None = None,
        arg: Any = _NOT_GIVEN,
        headers: dict[str, str] | None = None,
        jitter: timedelta = _NOTHING,
        overlap: OverlapPolicy = "skip",
        catch_up: timedelta = _DAY,
        replace: bool = False,
    ) -> Schedule:
        """As ``perdure.schedule``, while the program runs. ``replace``: change one of that name."""
        target = _handler_of(handler)
        spec = spec_of(
            target, cron=cron, every=every, at=at, timezone=timezone, offset=offset, name=name, key=key,
            arg=arg, headers=headers, jitter=jitter, overlap=overlap, catch_up=catch_up,
        )  # fmt: skip
        spec = _encoded(spec, target, self._codec)
        may_replace = replace

        async def put() -> Schedule:
            nonlocal may_replace
            may, may_replace = may_replace, True  # asked again, it may be our own that is there
            return (await self._engine().put(spec, may)).schedule

        return await self._asked(put)

    async def list(self) -> list[Schedule]:
        """All of them, by name, without bodies and headers."""
        return await self._asked(lambda: self._engine().list())

    async def find(self, name: str) -> Schedule | None:
        return await self._asked(lambda: self._engine().find(name))

    async def pause(self, name: str, reason: str = "by the program") -> Schedule:
        """No tick begins anything until it is resumed; what runs goes on."""
        return await self._asked(lambda: self._engine().pause(name, reason))

    async def resume(self, name: str) -> Schedule:
        return await self._asked(lambda: self._engine().resume(name))

    async def trigger(self, name: str) -> str:
        """Run now, whatever else runs. The invocation's id."""
        now_ms = self._engine().now_ms()
        return await self._asked(lambda: self._engine().trigger(name, now_ms))

    async def backfill(
        self, name: str, start: datetime, end: datetime, *, at_once: bool = False
    ) -> int:
        """Run the ticks from ``start`` to ``end``; how many there are. Both need a time zone."""
        for each in (start, end):
            if each.tzinfo is None:
                raise UsageError(f"{each} has no time zone: add one, such as tzinfo=UTC")
        from_ms, until_ms = ms_of(start), ms_of(end)
        now_ms = self._engine().now_ms()
        return await self._asked(
            lambda: self._engine().backfill(name, from_ms, until_ms, at_once, now_ms)
        )

    async def delete(self, name: str) -> None:
        """Its invocations stay."""
        is_again = False

        async def delete() -> None:
            nonlocal is_again
            was_again, is_again = is_again, True
            try:
                await self._engine().delete(name)
            except ScheduleRefused as error:
                if not (was_again and error.code == _NOT_FOUND):
                    raise

        await self._asked(delete)


__all__ = ["OverlapPolicy", "ScheduleRefused", "SystemSchedules", "schedule"]
