"""Random appends, reads, refusals and reopenings, against a dict."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from perdure.journal.errors import Fenced
from perdure.journal.store import Write, next_group
from tests.journal.stores import new_id, open_small, put

KEYS = st.binary(min_size=1, max_size=3).map(lambda tail: b"\x10" + tail)
VALUES = st.one_of(st.none(), st.binary(max_size=20), st.integers(1, 3000).map(bytes))
WRITES = st.lists(st.tuples(KEYS, VALUES), max_size=20)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="perdure-model-"))
        self.loop = asyncio.new_event_loop()
        self.store = open_small(self.directory / "data")
        self.rows: dict[bytes, bytes] = {}
        self.pos, self.epoch = 1, 1

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(writes=WRITES)
    def append(self, writes: list[Write]) -> None:
        self.loop.run_until_complete(put(self.store, *writes))
        self.pos += 1
        for key, value in writes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    @rule(writes=WRITES)
    def append_elsewhere(self, writes: list[Write]) -> None:
        after = self.store.tail
        group = next_group(after, new_id(), writes)
        self.loop.run_until_complete(put(self.store))
        self.pos += 1
        with pytest.raises(Fenced):
            self.loop.run_until_complete(self.store.append(group, after))

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.rows.get(key)

    @rule(start=KEYS, stop=KEYS, limit=st.one_of(st.none(), st.integers(0, 5)))
    def scan(self, start: bytes, stop: bytes, limit: int | None) -> None:
        found = sorted(row for row in self.rows.items() if start <= row[0] < stop)
        assert self.store.scan(start, stop, limit) == found[:limit]

    @rule()
    def reopen(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.store = open_small(self.directory / "data")
        self.pos += 1
        self.epoch += 1

    @rule()
    def crash(self) -> None:
        """The files as they are at this moment, as a killed process leaves them."""
        again = self.directory / "again"
        while not self._copied(again):  # before close: nothing is flushed
            shutil.rmtree(again)
        self.loop.run_until_complete(self.store.close())
        shutil.rmtree(self.directory / "data")
        again.rename(self.directory / "data")
        self.store = open_small(self.directory / "data")
        self.pos += 1
        self.epoch += 1

    def _copied(self, target: Path) -> bool:
        """Whether no compaction changed the files meanwhile."""
        data = self.directory / "data"
        before = sorted(data.rglob("*"))
        with contextlib.suppress(shutil.Error):
            shutil.copytree(data, target)
        return sorted(data.rglob("*")) == before

    @invariant()
    def rows_and_tail_are_those_of_the_model(self) -> None:
        assert self.store.scan(b"\x10", b"\xf1") == sorted(self.rows.items())
        assert (self.store.tail.pos, self.store.tail.epoch) == (self.pos, self.epoch)


StoreMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStore = StoreMachine.TestCase
