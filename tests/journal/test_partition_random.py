"""Random programs against the machine: crashes, commits and operators at random moments.

Two machines see the same events. One commits in groups that hypothesis chooses and may crash; the
other decides each event once and commits at the end, so that both stores must be equal where
nothing was lost. Invariants: ``invariants.py``.
"""

from collections.abc import Callable, Sequence
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from perdure.journal import ids, keys
from perdure.journal.attempt import Awaiting, Combinator, Frame, ProposeRun, Suspended
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    Call,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    GetInvocationOutput,
    GetLazyState,
    GetPromise,
    InvocationId,
    OneWayCall,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Value,
    Void,
    decode_segment,
)
from perdure.journal.events import (
    Act,
    AwaitEnd,
    Complete,
    Deliver,
    Destination,
    Restart,
    StartAttempt,
)
from perdure.journal.records import Completed, Invocation, Paused, Running
from perdure.journal.records import Suspended as SuspendedStatus
from perdure.journal.requests import Op
from perdure.journal.schema import HandlerType
from perdure.journal.turn import Step
from tests.journal.invariants import check_rows, check_view
from tests.journal.machine import ALL, DAY_MS, Machine

KEYS = ("a", "b")
NAMES = ("n", "m")
HANDLERS = {handler.name: handler for handler in ALL}
State = dict[tuple[str, str], dict[str, bytes]]
Given = dict[tuple[bytes, int], list[int]]


def completion_ids(entry: object) -> list[int]:
    names = ("completion_id", "id_completion_id")
    return [n for name in names if (n := getattr(entry, name, None)) is not None]


class Program(RuleBasedStateMachine):
    crashing = True

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.shadow = None if self.crashing else Machine(decide_count=1)
        self.known: set[bytes] = set()
        self.restart_count = 0
        self.waiting: dict[bytes, int] = {}  # who outside waits, on how many tokens
        self.started_with: dict[bytes, tuple[int, int]] = {}  # attempt, length of its journal
        self.given: Given = {}
        self.state: State = {}  # folded from the commands

    # ---- both machines

    def both(self, act: Callable[[Machine], object]) -> None:
        """``act``: what to do to a machine; the log of the first one is taken in."""
        machines = [self.machine] if self.shadow is None else [self.machine, self.shadow]
        for m in machines:
            start = len(m.log)
            act(m)
            if m is self.machine:
                self.take_in(m.log[start:])

    def take_in(self, acts: Sequence[Act]) -> None:
        for act in acts:
            match act:
                case StartAttempt(id=id, attempt=attempt):
                    self.known.add(id)
                    self.started_with[id] = (attempt, len(self.machine.journal(id)))
                    self.given[(id, attempt)] = []
                case Deliver(id=id, attempt=attempt, entries=entries):
                    self.given.setdefault((id, attempt), []).extend(i for i, _ in entries)
                    for _, notification in entries:
                        if type(notification.result) is InvocationId:
                            self.known.add(ids.parse_invocation_id(notification.result.id))
                case AwaitEnd(id=id):
                    self.waiting[id] = self.waiting.get(id, 0) + 1
                case Complete(id=id):
                    self.waiting.pop(id, None)

    def fold(self, step: Step, id: bytes, record: Invocation) -> None:
        """State as the journaled commands of an object say it is.

        Where the journal went with the end there is nothing to fold, so the state is believed.
        """
        if record.type is not HandlerType.EXCLUSIVE:
            return
        state = self.state.setdefault(record.address, {})
        if id in step.forgotten_journals:
            self.state[record.address] = dict(self.machine.tables.state(record.address))
        for entry in step.entries.get(id, (0, []))[1]:
            match entry:
                case SetState(key=name, value=value):
                    state[name] = value
                case ClearState(key=name):
                    state.pop(name, None)
                case ClearAllState():
                    state.clear()

    def alive(self, status: type = object) -> list[bytes]:
        found = [(id, self.machine.find(id)) for id in sorted(self.known)]
        return [
            id
            for id, record in found
            if record is not None
            and isinstance(record.status, status)
            and type(record.status) is not Completed
        ]

    # ---- from outside

    @rule(
        name=st.sampled_from(sorted(HANDLERS)),
        key=st.sampled_from(KEYS),
        delay_ms=st.sampled_from([None, None, 0, 300]),
        idempotency_key=st.sampled_from([None, None, "i"]),
        waits=st.booleans(),
    )
    def request(
        self,
        name: str,
        key: str,
        delay_ms: int | None,
        idempotency_key: str | None,
        waits: bool,
    ) -> None:
        target = HANDLERS[name]
        if target.type is HandlerType.WORKFLOW:
            idempotency_key = None

        def act(m: Machine) -> None:
            id = m.request(
                target,
                key if target.keyed else None,
                delay_ms=delay_ms,
                idempotency_key=idempotency_key,
                waits=waits,
            )
            self.known.add(id)

        self.both(act)

    @rule(data=st.data(), op=st.sampled_from(Op))
    def operate(self, data: st.DataObject, op: Op) -> None:
        if self.known:
            id = data.draw(st.sampled_from(sorted(self.known)))
            self.both(lambda m: m.operate(id, op))

    @rule(data=st.data(), from_index=st.sampled_from([0, 0, 1, 2, 3, 5]))
    def restart(self, data: st.DataObject, from_index: int) -> None:
        if not self.known:
            return
        id = data.draw(st.sampled_from(sorted(self.known)))
        record = self.machine.find(id)
        if record is None:
            return
        self.restart_count += 1
        new_id = ids.sibling_id(id, self.machine.now_ms, self.restart_count.to_bytes(10, "big"))
        place = Destination(HANDLERS[record.handler], is_latest=True)
        self.both(lambda m: m.apply(Restart(id, new_id, from_index, place, 9, m.token(), m.now_ms)))
        if self.machine.find(new_id) is not None:
            self.known.add(new_id)

    @rule(data=st.data(), signal=st.sampled_from([1, 17, "go"]))
    def signal(self, data: st.DataObject, signal: int | str) -> None:
        if self.known:
            id = data.draw(st.sampled_from(sorted(self.known)))
            self.both(lambda m: m.signal(id, signal))

    @rule(key=st.sampled_from(["p"]), value=st.binary(max_size=1))
    def patch(self, key: str, value: bytes) -> None:
        self.both(lambda m: m.patch("Counter", key, n=value))

    @rule(delay_ms=st.sampled_from([1, 200, 1_000]))
    def pass_time(self, delay_ms: int) -> None:
        self.both(lambda m: m.pass_ms(delay_ms))

    @rule(data=st.data())
    def fire_a_timer_twice(self, data: st.DataObject) -> None:
        rows = self.machine.tables.timers(b"\x40", self.machine.now_ms, 9)
        if rows:
            row = data.draw(st.sampled_from(rows))
            self.both(lambda m: (m.fire(row), m.fire(row)))

    # ---- from handlers

    @precondition(lambda self: self.alive(Running))
    @rule(data=st.data())
    def burst(self, data: st.DataObject) -> None:
        self.speak(data)

    @precondition(lambda self: self.alive(Running))
    @rule(data=st.data())
    def burst_again(self, data: st.DataObject) -> None:
        """Handlers speak more often than operators."""
        self.speak(data)

    @precondition(lambda self: self.alive(SuspendedStatus))
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.alive(SuspendedStatus)))
        self.both(lambda m: m.signal(id, 17))

    def speak(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.alive(Running)))
        journal = self.machine.journal(id)
        frames = self.commands(data, id, journal)
        last = data.draw(st.sampled_from(["go on", "go on", "end", "end", "suspend", "fail"]))
        if last == "end":
            frames += self.machine.ending()
        elif last == "suspend":
            frames.append(self.suspension(data, journal, frames))
        elif last == "fail":
            frames.append(self.machine.failed())
        late = data.draw(st.booleans())

        def act(m: Machine) -> None:
            record = m.record(id)
            step = m.burst(id, *frames)
            if m is self.machine:
                self.fold(step, id, record)
            if late:
                m.burst(id, *frames, attempt=record.attempt - 1)

        self.both(act)

    def commands(self, data: st.DataObject, id: bytes, journal: list[Entry]) -> list[Frame]:
        used = [n for entry in journal for n in completion_ids(entry)]
        n = max(used, default=0) + 1
        runs = [e.completion_id for e in journal if type(e) is Run]
        done = {e.completion_id for e in journal if type(e) is Completion}
        frames: list[Frame] = [
            ProposeRun(r, Value(b"r")) for r in runs if r not in done and data.draw(st.booleans())
        ]
        for _ in range(data.draw(st.integers(0, 4))):
            frames.append(data.draw(self.command(n)))
            n += 2
        return frames

    def command(self, n: int) -> st.SearchStrategy[Frame]:
        now_ms, names = self.machine.now_ms, st.sampled_from(NAMES)
        others = st.sampled_from(sorted(self.known))
        texts = others.map(ids.format_invocation_id)
        callee, key = st.sampled_from(ALL), st.sampled_from(KEYS)
        idempotency_key = st.sampled_from([None, None, "i"])
        free = callee.flatmap(lambda h: st.tuples(st.just(h), key if h.keyed else st.just("")))
        return st.one_of(
            st.builds(SetState, names, st.binary(max_size=2)),
            st.builds(ClearState, names),
            st.builds(ClearAllState),
            st.builds(GetLazyState, st.just(n), names),
            st.builds(Sleep, st.just(n), st.sampled_from([now_ms, now_ms + 1, now_ms + 300])),
            st.builds(Run, st.just(n)),
            st.builds(GetPromise, st.just(n), names),
            st.builds(PeekPromise, st.just(n), names),
            st.builds(CompletePromise, st.just(n), names, st.just(Value(b"p"))),
            st.builds(AttachInvocation, st.just(n), texts.map(ById)),
            st.builds(GetInvocationOutput, st.just(n), texts.map(ById)),
            st.builds(SendSignal, texts, st.sampled_from([1, 1, "go"]), st.just(Void())),
            st.builds(
                CompleteAwakeable,
                others.map(lambda id: ids.format_awakeable_id(id, 17)),
                st.just(Value(b"w")),
            ),
            st.tuples(free, idempotency_key).map(
                lambda t: Call(n, n + 1, t[0][0].service, t[0][0].name, t[0][1], b"", (), t[1])
            ),
            st.tuples(free, idempotency_key, st.sampled_from([0, now_ms + 300])).map(
                lambda t: OneWayCall(n, t[0][0].service, t[0][0].name, t[0][1], b"", t[2], (), t[1])
            ),
        )

    def suspension(
        self, data: st.DataObject, journal: list[Entry], frames: list[Frame]
    ) -> Suspended:
        done = {e.completion_id for e in journal if type(e) is Completion}
        asked = [n for entry in (*journal, *frames) for n in completion_ids(entry)]
        missing = tuple(n for n in asked if n not in done)
        combinator = data.draw(st.sampled_from(Combinator))
        return Suspended(Awaiting(combinator, missing, (1, 17)), len(journal))

    # ---- durability

    @rule()
    def seal(self) -> None:
        self.machine.seal()

    @rule()
    def commit(self) -> None:
        self.machine.commit()
        check_rows(self.machine.rows())

    @precondition(lambda self: self.crashing)
    @rule()
    def crash(self) -> None:
        m = self.machine
        self.waiting.clear()
        self.started_with.clear()
        self.given.clear()
        durable = m.rows()
        check_rows(durable)
        start = len(m.log)
        m.crash()
        self.take_in(m.log[start:])
        self.known = {key[1:] for key in durable if key[:1] == keys.INVOCATION}
        for address in self.state:
            self.state[address] = dict(m.tables.state(address))

    @rule()
    def expire(self) -> None:
        self.both(lambda m: m.expire() if m is self.machine else None)

    # ---- what always holds

    @invariant()
    def tables_are_consistent(self) -> None:
        check_view(self.machine.tables, self.known)

    @invariant()
    def state_is_the_fold_of_the_journaled_commands(self) -> None:
        for address, state in self.state.items():
            assert dict(self.machine.tables.state(address)) == state

    @invariant()
    def an_attempt_was_given_every_notification_once_in_order(self) -> None:
        for id in self.alive(Running):
            attempt, length = self.started_with[id]
            assert self.machine.record(id).attempt == attempt
            journal = self.machine.journal(id)[length:]
            news = [i for i, e in enumerate(journal, length) if hasattr(e, "result")]
            news = [i for i in news if type(self.machine.journal(id)[i]).__name__ in NOTIFICATIONS]
            assert self.given[(id, attempt)] == news

    @invariant()
    def who_waits_waits_for_something_alive(self) -> None:
        alive = set(self.alive())
        assert self.waiting.keys() <= alive

    def teardown(self) -> None:
        if self.shadow is not None:
            self.machine.commit()
            self.shadow.commit()
            assert logical(self.machine.rows()) == logical(self.shadow.rows())
        self.drain()

    def drain(self) -> None:
        """Everything that was accepted ends, and after its retention nothing of it is left."""
        for _ in range(500):
            alive = self.alive()
            if not alive:
                break
            for id in alive:
                record = self.machine.find(id)
                if record is None:
                    continue
                if type(record.status) is Running:
                    self.both(partial(Machine.end, id=id))
                elif type(record.status) in (Paused, SuspendedStatus):
                    self.both(partial(Machine.operate, id=id, op=Op.RESUME))
            self.both(lambda m: m.pass_ms(1_000))
        assert self.alive() == [], "something never ends"
        assert self.waiting == {}
        self.machine.pass_ms(DAY_MS)
        while self.machine.expire():
            pass
        check_rows(self.machine.rows())
        left = {key[:1] for key in self.machine.rows()}
        assert left <= {keys.META, keys.STATE, keys.PROMISE}


NOTIFICATIONS = ("Completion", "Signal")


class SplitProgram(Program):
    """Without crashes: however the groups are cut, the store comes out the same."""

    crashing = False

    @rule()
    def expire(self) -> None:
        """Left out: it commits, and the shadow must not."""


def logical(rows: dict[bytes, bytes]) -> dict[bytes, object]:
    """Rows, with the segments of a journal joined: where they are cut is free."""
    plain: dict[bytes, object] = {}
    for key, value in sorted(rows.items()):
        if key[:1] == keys.JOURNAL:
            journal = plain.setdefault(key[:25], [])
            assert isinstance(journal, list)
            assert keys.journal_index(key) == len(journal)
            journal.extend(decode_segment(value))
        else:
            plain[key] = value
    return plain


SETTINGS = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCrashes = Program.TestCase
TestCrashes.settings = SETTINGS
TestSplits = SplitProgram.TestCase
TestSplits.settings = SETTINGS
