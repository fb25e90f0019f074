"""The count of pinned invocations: what changes while it is made, and after it."""

from random import Random

import pytest

from perdure.journal import entries as e
from perdure.journal import keys, records
from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.pins import Pins, pin_of, pins_in
from perdure.journal.records import (
    BackingOff,
    Completed,
    FailureNote,
    Inboxed,
    Invocation,
    Paused,
    Running,
    Scheduled,
    Status,
    Suspended,
)
from perdure.journal.schema import HandlerType

DONE = Completed(e.Value(b"x"), 5, 10)
STATUSES: list[Status] = [
    Scheduled(9),
    Inboxed(),
    Running(),
    BackingOff(9),
    Suspended(Awaiting(Combinator.ALL_COMPLETED, (1, 2)), 1),
    Paused("why"),
    DONE,
]
PLACES = ["", "dp_a", "dp_b"]


def record(status: Status, command_count: int = 1, deployment_id: str = "") -> Invocation:
    return Invocation(
        "S",
        "h",
        None,
        HandlerType.SERVICE,
        status,
        1,
        2,
        3,
        "ingress",
        command_count=command_count,
        last_failure=FailureNote(500, "once"),
        deployment_id=deployment_id,
    )


@pytest.mark.parametrize("status", STATUSES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("command_count", [1, 2])
@pytest.mark.parametrize("deployment_id", PLACES)
def test_a_row_says_the_same_as_its_record(
    status: Status, command_count: int, deployment_id: str
) -> None:
    made = record(status, command_count, deployment_id)
    pin = pin_of(made)
    assert (pin is not None) == (made.pinned and status is not DONE)
    found = pins_in([(b"k", records.encode(made))])
    assert found == ([] if pin is None else [(b"k", pin)])


class Disk:
    """Rows as they are on disk, one group in flight, and a pass that reads some of them at a time."""

    def __init__(self, rng: Random, rows: int) -> None:
        self.rng = rng
        self.pins = Pins()
        self.durable = {rng.randbytes(24): self.made() for _ in range(rows)}
        self.in_flight: dict[bytes, Invocation | None] = {}
        self.start: bytes | None = keys.INVOCATION
        self.read: tuple[list[tuple[bytes, str]], bytes | None] | None = None

    def made(self) -> Invocation:
        rng = self.rng
        return record(rng.choice(STATUSES), rng.choice([1, 2]), rng.choice(PLACES))

    def seal(self) -> None:
        """A group begins to be written; the one before it is durable."""
        self.commit()
        rng = self.rng
        ids = [rng.choice(list(self.durable)), rng.choice(list(self.durable)), rng.randbytes(24)]
        self.in_flight = {id: self.made() if rng.random() < 0.8 else None for id in ids}
        self.pins.note(self.in_flight, self.durable.get)

    def commit(self) -> None:
        for id, made in self.in_flight.items():
            if made is None:
                self.durable.pop(id, None)
            else:
                self.durable[id] = made
        self.in_flight = {}

    def go_on(self) -> None:
        """The pass reads beside the loop, and is heard of later."""
        if self.read is not None:
            found, self.start = self.read
            self.pins.count(found, self.start)
            self.read = None
        elif self.start is not None:
            rows = sorted((keys.invocation(id), made) for id, made in self.durable.items())
            part = [(key, records.encode(made)) for key, made in rows if key >= self.start][:7]
            then = part[-1][0] + b"\x00" if len(part) == 7 else None
            self.read = pins_in(part), then

    def counted(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for made in self.durable.values():
            pin = pin_of(made)
            if pin is not None:
                counts[pin] = counts.get(pin, 0) + 1
        return counts


@pytest.mark.parametrize("seed", range(40))
def test_the_count_is_that_of_all_rows_whatever_changes_meanwhile(seed: int) -> None:
    rng = Random(seed)
    disk = Disk(rng, 60)
    while not disk.pins.is_whole:
        rng.choice([disk.seal, disk.commit, disk.go_on])()
    for _ in range(20):
        disk.seal()
    disk.commit()
    assert disk.pins.counts == disk.counted()
