"""Carries a repartition out, on the stores that no server has open: survey, write, verify, switch, remove.

The old stores are locked to the end and only read. Nothing is kept about how far it came: what a new store
must hold follows from the old ones, so one that holds it is done. What becomes of a row: ``repartition``.
Rules: docs/journal-format.md, "Partitions".
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from perdure.journal import layout
from perdure.journal.datadir import DataDirectory
from perdure.journal.durable import sync_path, sync_tree
from perdure.journal.errors import StoreBusy, StoreDamaged, StoreError, StoreFormat
from perdure.journal.layout import Layout
from perdure.journal.leveldb import LevelDBOptions, LevelDBStore, open_store
from perdure.journal.placement import MAX_PARTITIONS
from perdure.journal.repartition import ALL_ROWS, Sums, Survey, iter_rows_of, sum_rows, survey
from perdure.journal.store import Row, Write, next_group

_LOCK = "repartition.lock"
_BATCH_BYTES = 1 << 20  # of rows that are written with one sync
_NEW_STORE = LevelDBOptions(write_buffer_bytes=8 << 20, cache_bytes=8 << 20, reserve_bytes=0)
_SPARE_BYTES, _STORE_BYTES = 64 << 20, 1 << 20  # beside the rows: in all, and of each new store
_GROWTH = 1.2  # of what the rows take on disk, before LevelDB has sorted them

OnStep = Callable[[str, Path], None]
OnRows = Callable[[int], None]


class Move(msgspec.Struct, frozen=True):
    """What goes from one old partition to a new one, the outbox aside."""

    source: int
    target: int
    rows: int
    size_bytes: int


class Report(msgspec.Struct, frozen=True):
    """What was done, or on a dry run would be."""

    data: str
    old_count: int
    new_count: int
    moves: list[Move]
    messages: int  # of the outboxes, not yet delivered
    needed_bytes: int
    free_bytes: int
    switched: bool  # False: a dry run, or there was nothing to do
    kept: list[int] = []  # new partitions that an interrupted run had written already
    removed: list[str] = []  # directories of former partitions


class Watcher:
    """Is told how far it is; this one does not care. Steps: "survey", "write", "verify", "move", "switch",
    "remove", each with the path that it is about, before it is done."""

    def step(self, name: str, path: Path, total_rows: int | None = None) -> None:
        return None

    def advance(self, rows: int) -> None:
        return None


def repartition(
    data: str | os.PathLike[str],
    count: int,
    *,
    dry_run: bool = False,
    watcher: Watcher | None = None,
) -> Report:
    """Give the data directory ``count`` partitions, or finish doing so. Blocks; killed, it is run again.

    Raises ValueError (no such count), StoreFormat (no data, or not of this release), StoreBusy (in use),
    StoreDamaged (old rows that cannot be, or new ones that are not what was written), StoreError (no room).
    After any of them the data is as it was.
    """
    if not 1 <= count <= MAX_PARTITIONS:
        raise ValueError(f"expected 1 to {MAX_PARTITIONS} partitions, not {count}")
    data = Path(data).absolute()
    old = layout.find_layout(data)
    if old is None:
        raise StoreFormat(f"expected a data directory at {data}, found none; check the path")
    with ExitStack() as stack:
        stack.enter_context(_only_one(data))
        old = layout.find_layout(data) or old  # again, now that nobody else changes it
        run = _Run(data, old, count, watcher or Watcher(), stack.enter_context(asyncio.Runner()))
        try:
            return run.finish(dry_run) if old.count == count else run.carry_out(dry_run)
        except OSError as e:
            raise StoreError(
                f"repartitioning {data} failed: {e}. The data is whole; see to the disk, then run the "
                "command again"
            ) from e


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Keep other runs of this command out; the stores' own locks keep servers out."""
    try:
        fd = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StoreError(f"the data directory {data} cannot be used: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise StoreBusy(f"{data} is being repartitioned by another process; let it end") from e
    finally:
        os.close(fd)


class _Source:
    """An old store, whose rows are counted as they are read."""

    def __init__(self, store: LevelDBStore, on_rows: OnRows) -> None:
        self._store, self._on_rows = store, on_rows

    def rows(self, start: bytes, stop: bytes) -> Iterator[Row]:
        return _counted(self._store.rows(start, stop), self._on_rows)


class _Run:
    """One run of the command. ``carry_out`` or ``finish``, once."""

    def __init__(
        self, data: Path, old: Layout, count: int, watcher: Watcher, runner: asyncio.Runner
    ) -> None:
        self._data, self._old, self._watcher, self._runner = data, old, watcher, runner
        self._new = layout.next_layout(old, count)
        self._place = layout.generation_directory(data, self._new.generation)
        self._work = self._place.with_name(self._place.name + ".new")

    def finish(self, dry_run: bool) -> Report:
        """There are as many as asked for: remove what an earlier run has left."""
        removed = [] if dry_run else self._remove_others(self._old)
        free = DataDirectory(self._data).free_bytes()
        count = self._old.count
        return Report(str(self._data), count, count, [], 0, 0, free, False, removed=removed)

    def carry_out(self, dry_run: bool) -> Report:
        with ExitStack() as stack:
            stores = self._open_old(stack)
            sources = [_Source(store, self._watcher.advance) for store in stores]
            self._watcher.step("survey", self._data)
            found = survey(sources, self._new.count)
            report = self._report(found, stores)
            if dry_run:
                return report
            self._check_room(report)
            try:
                kept = self._write_all(found, sources)
            except (StoreDamaged, StoreBusy):
                raise
            except (StoreError, OSError) as e:  # full, most likely: give back what was taken
                shutil.rmtree(self._work, ignore_errors=True)
                raise StoreError(
                    f"the new partitions cannot be written: {e}. The old ones are unchanged and stay in "
                    "use; what was written of the new ones is removed"
                ) from e
            self._switch()
        removed = self._remove_others(self._new)
        return msgspec.structs.replace(report, switched=True, kept=kept, removed=removed)

    # ---- the old stores --------------------------------------------------------------------------

    def _open_old(self, stack: ExitStack) -> list[LevelDBStore]:
        stores = []
        for path in layout.partition_directories(self._data, self._old.count):
            store = _open(path, LevelDBOptions())
            stack.callback(self._do, store.close)
            stores.append(store)
        return stores

    def _report(self, found: Survey, stores: Sequence[LevelDBStore]) -> Report:
        totals: dict[tuple[int, int], list[int]] = {}
        for target, moves in enumerate(found.moves):
            for (source, _), moved in moves.items():
                total = totals.setdefault((source, target), [0, 0])
                total[0] += moved.rows
                total[1] += moved.size_bytes
        size = sum(store.approximate_bytes() for store in stores)
        free = DataDirectory(self._data).free_bytes()
        return Report(
            str(self._data),
            self._old.count,
            self._new.count,
            [Move(*pair, *total) for pair, total in sorted(totals.items())],
            sum(outgoing.rows for outgoing in found.outgoing),
            int(_GROWTH * size) + _SPARE_BYTES + self._new.count * _STORE_BYTES,
            free + sum(_size_bytes(path) for path in (self._work, self._place) if path.exists()),
            switched=False,
        )

    def _check_room(self, report: Report) -> None:
        if report.free_bytes < report.needed_bytes:
            raise StoreError(
                f"repartitioning {self._data} takes about {report.needed_bytes >> 20} MiB beside the "
                f"old partitions, and {report.free_bytes >> 20} MiB are free; free some space, or move "
                "the directory to a larger disk. Nothing was changed."
            )

    # ---- the new ones ----------------------------------------------------------------------------

    def _write_all(self, found: Survey, sources: Sequence[_Source]) -> list[int]:
        """Every new store, on disk and verified; returns those that were there already."""
        self._take_up()
        kept = []
        for target in range(self._new.count):
            path = self._work / layout.partition_name(target)
            expected = found.expected(target)
            if path.exists():
                if self._is_done(path, expected):
                    kept.append(target)
                    continue
                shutil.rmtree(path)
            self._watcher.step("write", path, _rows(expected))
            self._write(path, iter_rows_of(target, found, sources))
            self._watcher.step("verify", path, _rows(expected))
            self._verify(path, expected)
        sync_tree(self._work)
        return kept

    def _take_up(self) -> None:
        """The place to write in, with what an interrupted run has left there."""
        if self._place.exists():  # complete, but not switched to
            shutil.rmtree(self._work, ignore_errors=True)
            self._place.rename(self._work)
        self._work.mkdir(mode=0o700, exist_ok=True)
        names = {layout.partition_name(target) for target in range(self._new.count)}
        layout.remove_all([path for path in self._work.iterdir() if path.name not in names])

    def _is_done(self, path: Path, expected: Sums) -> bool:
        self._watcher.step("verify", path, _rows(expected))
        try:
            return self._read(path) == expected
        except StoreBusy:
            raise
        except StoreError:  # half written when the run before was interrupted
            return False

    def _write(self, path: Path, rows: Iterable[Row]) -> None:
        store = _open(path, _NEW_STORE)
        try:
            batch: list[Write] = []
            size = 0
            for key, value in rows:
                batch.append((key, value))
                size += len(key) + len(value)
                if size >= _BATCH_BYTES:
                    self._append(store, batch)
                    batch, size = [], 0
            if batch:
                self._append(store, batch)
        finally:
            self._do(store.close)

    def _append(self, store: LevelDBStore, batch: list[Write]) -> None:
        group = next_group(store.tail, os.urandom(16), batch)
        self._do(lambda: store.append(group, store.tail))

    def _verify(self, path: Path, expected: Sums) -> None:
        """Raise StoreDamaged unless the store, opened anew, holds exactly what it must."""
        try:
            found = self._read(path)
        except StoreDamaged as e:
            raise self._differs(path, str(e)) from e
        for tag in sorted(expected.keys() | found.keys()):
            if expected.get(tag) != found.get(tag):
                wanted, got = (_told(sums, tag) for sums in (expected, found))
                raise self._differs(path, f"table 0x{tag:02x}: expected {wanted}, found {got}")

    def _differs(self, path: Path, what: str) -> StoreDamaged:
        return StoreDamaged(
            f"the new partition in {path} is not what was written to it: {what}. The old partitions are "
            "unchanged and stay in use. Check the disk, then run the command again."
        )

    def _read(self, path: Path) -> Sums:
        store = _open(path, _NEW_STORE)
        try:
            return sum_rows(_counted(store.rows(*ALL_ROWS), self._watcher.advance))
        finally:
            self._do(store.close)

    # ---- from the ones to the others -------------------------------------------------------------

    def _switch(self) -> None:
        self._watcher.step("move", self._work)
        self._work.rename(self._place)
        sync_path(self._data)
        self._watcher.step("switch", self._place)
        layout.write_layout(self._data, self._new)

    def _remove_others(self, current: Layout) -> list[str]:
        """Delete every store in the data directory that is not one of ``current``."""
        removed = []
        if current.generation:
            self._watcher.step("remove", self._data)
            DataDirectory(self._data).remove()
        for path in layout.leftovers(self._data, current):
            self._watcher.step("remove", path)
            shutil.rmtree(path)
            removed.append(str(path))
        sync_path(self._data)
        return removed

    def _do(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._runner.run(call())


def _open(path: Path, options: LevelDBOptions) -> LevelDBStore:
    return open_store(path, new_id=lambda: os.urandom(16), options=options)


def _counted(rows: Iterable[Row], on_rows: OnRows) -> Iterator[Row]:
    """The same rows; ``on_rows`` is told how many more have passed, now and then."""
    count = 0
    for row in rows:
        yield row
        count += 1
        if count == 1_000:
            on_rows(count)
            count = 0
    on_rows(count)


def _rows(sums: Sums) -> int:
    return sum(each.rows for each in sums.values())


def _told(sums: Sums, tag: int) -> str:
    found = sums.get(tag)
    return "no rows" if found is None else f"{found.rows} rows with checksum {found.checksum:032x}"


def _size_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
