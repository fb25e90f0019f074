"""A machine with schedules, and the one that most tests of them begin with."""

from perdure.journal import ids, keys
from perdure.journal.events import AskSchedules
from perdure.journal.keys import TimerKind
from perdure.journal.schedules_records import Interval, Schedule, Spec, decode_schedule
from perdure.journal.schedules_requests import Ask, Put, Stored
from tests.journal.machine import NOW_MS, Machine

MINUTE_MS = 60_000
START_MS = NOW_MS - NOW_MS % MINUTE_MS  # the minute in which a machine begins
MINUTELY = Spec("tick", Interval(MINUTE_MS), "Greeter", "greet", body=b"x", headers=(("a", "b"),))
ID = ids.schedule_id("tick")


class Clockwork(Machine):
    """A machine with schedules."""

    def ask(self, wanted: Ask) -> object:
        self.apply(AskSchedules(wanted, 99, self.token(), self.now_ms))
        return self.replies()[-1]

    def put(self, spec: Spec = MINUTELY, may_replace: bool = False) -> Schedule:
        answer = self.ask(Put(spec, may_replace))
        assert isinstance(answer, Stored), answer
        return answer.schedule

    def schedule(self, name: str = "tick") -> Schedule:
        raw = self.tables.row(keys.schedule(ids.schedule_id(name)))
        assert raw is not None
        return decode_schedule(raw)

    def begun(self) -> list[bytes]:
        """Ids of what schedules began, oldest first."""
        records = [(r.created_at_ms, id) for id, r in self.tables.pending_invocations()
                   if r is not None and r.invoked_by.startswith("schedule:")]  # fmt: skip
        return [id for _, id in sorted(records)]

    def ticks(self) -> list[str]:
        """Idempotency keys of what schedules began."""
        return sorted(self.record(id).idempotency_key or "" for id in self.begun())

    def timers(self) -> list[tuple[int, int]]:
        """Due time and number of the schedules' timers."""
        rows = [keys.split_timer(key) for key, _ in self.tables.timers(b"\x40", 1 << 60, 10_000)]
        return [(due_ms, number) for due_ms, kind, _, number in rows if kind is TimerKind.SCHEDULE]
