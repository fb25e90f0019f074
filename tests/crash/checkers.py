"""What must be true of a history, whatever happened to the server: pure functions from what was seen to
a list of problems, empty when all is well.

Each returns sentences, so that a failing run explains itself. Rules: reliability 2 (P1-P10) and 3.5.
A test shows for each of them a history that it must refuse.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Add(msgspec.Struct, frozen=True):
    """One `add` to one counter. ``seen``: `(old, new)`, or None where no answer came.

    Times in nanoseconds of one monotonic clock; for an add that was sent again under its idempotency
    key, from the first request to the answer.
    """

    called_ns: int
    returned_ns: int
    amount: int
    seen: tuple[int, int] | None


class Effect(msgspec.Struct, frozen=True):
    """A side effect that really happened; ``token`` says which time: `life-number`."""

    invocation_id: str
    step: str
    token: str


class Answer(msgspec.Struct, frozen=True):
    """What one request under an idempotency key got."""

    idempotency_key: str
    invocation_id: str
    body: bytes


class Timer(msgspec.Struct, frozen=True):
    """By the server's clock: when it was due, and when the handler went on."""

    name: str
    due_ms: int
    fired_ms: int


class Attempted(msgspec.Struct, frozen=True):
    """One request, whatever it was. Monotonic nanoseconds."""

    called_ns: int
    returned_ns: int
    ok: bool


def check_chain(adds: Sequence[Add], final: int) -> list[str]:
    """Whether the adds to one key, each positive, can have happened one after the other (P1, P4).

    Sorted by the value that each produced: no value twice, each gap paid by adds without an answer, and
    no add that had returned before an earlier one of the chain was called. Linear after the sort.
    """
    problems = []
    chain = sorted(((a.seen, a) for a in adds if a.seen is not None), key=lambda each: each[0])
    unknown = sum(a.amount for a in adds if a.seen is None)
    value, latest_call, gaps = 0, 0, 0
    for (old, new), add in chain:
        if new != old + add.amount:
            problems.append(f"an add of {add.amount} made {new} of {old}")
        if old < value:
            problems.append(f"an add saw {old}, but {value} was reached before: an update is lost")
        elif old > value:
            gaps += old - value
        if add.returned_ns < latest_call:
            problems.append(f"the add to {new} returned before one that precedes it was called")
        latest_call = max(latest_call, add.called_ns)
        value = new
    if final < value:
        problems.append(f"the total is {final}, but {value} was acknowledged")
    gaps += final - value
    if gaps > unknown:
        problems.append(f"{gaps} too much: adds without an answer explain only {unknown}")
    return problems


def check_effects(effects: Sequence[Effect], recorded: Mapping[tuple[str, str], str]) -> list[str]:
    """Whether no side effect happened after its result was journaled (P3).

    ``recorded``: `(invocation, step)` to the token that the journal has, known from the answer. A crash
    before the commit repeats an effect, so that the recorded one is always the last, and each life of
    the server did it once at most.
    """
    problems = []
    happened: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in effects:
        happened[each.invocation_id, each.step].append(each.token)
    for step, token in recorded.items():
        tokens = happened.get(step, [])
        if token not in tokens:
            problems.append(f"{step}: the result {token} was recorded, but never happened")
        elif tokens[-1] != token:
            problems.append(f"{step}: done again after {token} was recorded: {tokens}")
        lives = [each.rpartition("-")[0] for each in tokens]
        if len(set(lives)) < len(lives):
            problems.append(f"{step}: done twice with no crash in between: {tokens}")
    return problems


def check_order(received: Sequence[tuple[str, int]], sent: Mapping[str, int]) -> list[str]:
    """Whether one receiver got 0, 1, 2 ... from each sender: nothing lost, doubled or overtaken (P9).

    ``sent``: how many each sender sent.
    """
    problems = []
    by_sender: dict[str, list[int]] = defaultdict(list)
    for sender, number in received:
        by_sender[sender].append(number)
    for sender in by_sender.keys() - sent.keys():
        problems.append(f"items of {sender}, which never sent any")
    for sender, how_many in sent.items():
        if (got := by_sender[sender]) != list(range(how_many)):
            problems.append(f"from {sender}: expected 0 to {how_many - 1} in order, found {got}")
    return problems


def check_answers(answers: Iterable[Answer]) -> list[str]:
    """Whether an idempotency key always named one invocation with one answer (P7)."""
    seen: dict[str, Answer] = {}
    problems = []
    owners: dict[str, str] = {}
    for each in answers:
        first = seen.setdefault(each.idempotency_key, each)
        if first != each:
            problems.append(f"{each.idempotency_key} got {first} and {each}")
        owner = owners.setdefault(each.invocation_id, each.idempotency_key)
        if owner != each.idempotency_key:
            problems.append(f"{owner} and {each.idempotency_key} share {each.invocation_id}")
    return problems


def check_timers(timers: Iterable[Timer], tolerance_ms: int = 1) -> list[str]:
    """Whether each timer fired once and none early (P8)."""
    problems = []
    names = set()
    for each in timers:
        if each.name in names:
            problems.append(f"{each.name} fired twice")
        names.add(each.name)
        if each.fired_ms < each.due_ms - tolerance_ms:
            problems.append(f"{each.name} fired {each.due_ms - each.fired_ms} ms early")
    return problems


def check_completions(accepted: Mapping[str, Sequence[str]], found: Mapping[str, str]) -> list[str]:
    """Whether each waiter saw a completion that was sent, and each that should have, did (P6).

    ``accepted``: what was sent to each awakeable or promise; ``found``: what its waiter got.
    """
    problems = []
    for name, values in accepted.items():
        value = found.get(name)
        if value is None:
            problems.append(f"{name} was completed, but its waiter never went on")
        elif value not in values:
            problems.append(f"{name}: nobody sent {value!r}, only {list(values)}")
    return problems


def share_of_good(
    requests: Iterable[Attempted], faults: Sequence[tuple[int, int]]
) -> tuple[int, int, int]:
    """Requests outside all fault windows that were good, that were not, and those inside one."""
    good = bad = inside = 0
    for each in requests:
        if any(each.called_ns < end and start < each.returned_ns for start, end in faults):
            inside += 1
        elif each.ok:
            good += 1
        else:
            bad += 1
    return good, bad, inside
