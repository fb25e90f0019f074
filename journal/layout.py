"""How many partitions a data directory has, and which directory is the store of each one.

A data directory that only ever had one partition is that store itself. Any other has the file PARTITIONS;
replacing it is what switches from one set of stores to the next. Rules: docs/journal-format.md, "Partitions".
"""

import os
import re
import shutil
from pathlib import Path

import msgspec

from perdure.journal.durable import replace_file
from perdure.journal.errors import StoreDamaged, StoreFormat
from perdure.journal.placement import MAX_PARTITIONS, owner_of

PARTITIONS = "PARTITIONS"
LAYOUT_VERSION = 1

_NOT_OURS = {"lost+found", "run", "code", "owner.lock", PARTITIONS + ".tmp"}  # may be there before
_STORE_FILES = ("FORMAT", "CREATING")  # either one: a store is here, or was begun
_PARTITION = re.compile(r"partition-\d{3}")
_GENERATION = re.compile(r"generation-(\d+)(\.new)?")
_FIRST_GENERATION = 1
_MOST_NAMED = 5  # files in a message


class Layout(msgspec.Struct, frozen=True):
    """What PARTITIONS says; generation 0: there is none, and the data directory is the store."""

    count: int
    generation: int = 0
    version: int = LAYOUT_VERSION


EMBEDDED = Layout(1)


def find_layout(data: str | os.PathLike[str]) -> Layout | None:
    """How the data in this directory is laid out, None where there is none yet. Raises StoreFormat."""
    data = Path(data)
    found = _read(data)
    if found is not None:
        return found
    if any((data / name).exists() for name in _STORE_FILES):
        return EMBEDDED
    lost = [path for path in _partitions_in(data) if (path / "FORMAT").exists()]
    if lost:
        raise StoreFormat(
            f"{data / PARTITIONS} is missing, but {lost[0]} is a partition; put {PARTITIONS} back. "
            "Nothing was touched."
        )
    return None


def check_count(data: str | os.PathLike[str], count: int) -> None:
    """Raise StoreFormat where there are other partitions than ``count``, with the command to run."""
    layout = find_layout(data)
    if layout is not None and layout.count != count:
        system = "--system processes " if layout.count > 1 and count == 1 else ""
        raise StoreFormat(
            f"the data directory {data} has {_partitions(layout.count)}, not {count}; start with "
            f"`{system}--partitions {layout.count}`, or run: "
            f"perdure repartition --data {data} --partitions {count}"
        )


def partition_directories(data: str | os.PathLike[str], count: int) -> list[Path]:
    """The store of each partition, which must be ``count``; those of a new data directory need not be there.

    Raises StoreFormat (another count, or unreadable), StoreDamaged (a partition is gone).
    """
    check_count(data, count)
    layout = find_layout(data) or fresh(count)
    directories = directories_of(data, layout)
    if layout.generation and (Path(data) / PARTITIONS).exists():
        for path in directories:
            if not path.is_dir():
                raise StoreDamaged(f"{path} is missing; restore it from a backup")
    return directories


def prepare_partitions(data: str | os.PathLike[str], count: int) -> list[Path]:
    """``partition_directories``, made where there was no data yet; call it before the stores are opened."""
    directories = partition_directories(data, count)
    if count > 1 and find_layout(data) is None:
        for path in directories:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_layout(data, fresh(count))
    return directories


def check_new(data: str | os.PathLike[str]) -> None:
    """Raise StoreFormat where ``data``, in which no data was found, has files of somebody else. OSError."""
    try:
        names = set(os.listdir(data)) - _NOT_OURS
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise StoreFormat(
            f"expected a data directory at {data}, found a file; name another directory"
        ) from None
    foreign = sorted(name for name in names if not _PARTITION.fullmatch(name))
    if foreign:
        raise StoreFormat(
            f"expected an empty directory or a Perdure data directory at {data}, found no {PARTITIONS} "
            f"file but: {', '.join(foreign[:_MOST_NAMED])}. Nothing was touched. Name another directory."
        )


def unprepare_partitions(data: str | os.PathLike[str], count: int) -> None:
    """Undo ``prepare_partitions``, where it has made a layout and no store was begun since."""
    directories = directories_of(data, fresh(count))
    if count > 1 and not any(_entries(path) for path in directories):
        for name in (PARTITIONS, PARTITIONS + ".tmp"):
            (Path(data) / name).unlink(missing_ok=True)
        for path in directories:
            if path.is_dir():
                path.rmdir()


def directory_of(data: str | os.PathLike[str], id: bytes) -> Path:
    """The store that holds what ``id`` names: raw, of an invocation or schedule."""
    stores = stores_of(data)
    return stores[owner_of(id, len(stores))]


def stores_of(data: str | os.PathLike[str]) -> list[Path]:
    """The store of each partition, however many there are; for readers. Raises StoreFormat."""
    return directories_of(data, find_layout(data) or EMBEDDED)


def fresh(count: int) -> Layout:
    """The layout of a new data directory."""
    return EMBEDDED if count == 1 else Layout(count, _FIRST_GENERATION)


def directories_of(data: str | os.PathLike[str], layout: Layout) -> list[Path]:
    data = Path(data)
    if layout.generation == 0:
        return [data]
    parent = data
    if layout.generation > _FIRST_GENERATION:
        parent = generation_directory(data, layout.generation)
    return [parent / partition_name(index) for index in range(layout.count)]


def is_partition(store: Path) -> bool:
    """Whether it is one of several stores, by its name."""
    return _PARTITION.fullmatch(store.name) is not None


def partition_name(index: int) -> str:
    return f"partition-{index:03d}"


def generation_directory(data: str | os.PathLike[str], generation: int) -> Path:
    return Path(data) / f"generation-{generation}"


def next_layout(layout: Layout, count: int) -> Layout:
    """What follows ``layout``; its directory is a new one, never the data directory."""
    return Layout(count, max(layout.generation, _FIRST_GENERATION) + 1)


def check_current(store: Path) -> None:
    """Raise StoreFormat where ``store`` is a partition that its data directory no longer has.

    So that a server that has read PARTITIONS before it was replaced makes no empty store in an old place.
    """
    store = store.absolute()
    if not is_partition(store):
        return
    data = store.parent.parent if _is_current_name(store.parent.name) else store.parent
    layout = _read(data)
    if layout is not None and store not in directories_of(data, layout):
        raise StoreFormat(
            f"{store} is not a partition of {data} any more: it has {_partitions(layout.count)} in "
            "other directories since it was repartitioned; start again"
        )


def leftovers(data: str | os.PathLike[str], layout: Layout) -> list[Path]:
    """Directories of partitions that are not the layout's: of former ones, or of ones begun."""
    data = Path(data)
    if layout.generation == 0:
        return _generations(data)
    current = {path for store in directories_of(data, layout) for path in (store, store.parent)}
    return [path for path in (*_partitions_in(data), *_generations(data)) if path not in current]


def write_layout(data: str | os.PathLike[str], layout: Layout) -> None:
    """Replace PARTITIONS, durably; the stores that it names must be."""
    replace_file(Path(data) / PARTITIONS, msgspec.json.encode(layout))


def remove_all(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path)


def _read(data: Path) -> Layout | None:
    path = data / PARTITIONS
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise StoreFormat(f"{path} cannot be read ({e}); restore it from a backup") from e
    try:
        version = msgspec.json.decode(raw, type=dict[str, object]).get("version")
        if isinstance(version, int) and version > LAYOUT_VERSION:
            raise StoreFormat(
                f"{path} has version {version}, this release reads up to {LAYOUT_VERSION}; start the "
                "newer release that wrote it. Nothing was touched."
            )
        layout = msgspec.json.decode(raw, type=Layout)
    except (ValueError, msgspec.MsgspecError) as e:
        raise StoreFormat(f"{path} cannot be read ({e}); restore it from a backup") from e
    if not (1 <= layout.count <= MAX_PARTITIONS and layout.generation >= _FIRST_GENERATION):
        raise StoreFormat(
            f"{path}: expected 1 to {MAX_PARTITIONS} partitions and a generation from 1 on, found "
            f"{layout.count} and {layout.generation}; restore it from a backup"
        )
    return layout


def _is_current_name(name: str) -> bool:
    found = _GENERATION.fullmatch(name)
    return found is not None and found[2] is None


def _partitions_in(data: Path) -> list[Path]:
    return sorted(path for path in _entries(data) if _PARTITION.fullmatch(path.name))


def _generations(data: Path) -> list[Path]:
    return sorted(path for path in _entries(data) if _GENERATION.fullmatch(path.name))


def _entries(data: Path) -> list[Path]:
    return list(data.iterdir()) if data.is_dir() else []


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"
