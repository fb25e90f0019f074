"""What can be said of a data directory before its stores are opened, so that a start is refused in time.

Nothing here writes, locks, or knows the engine: a log that can't be read is found by opening alone.
"""

import os
from pathlib import Path

from perdure.journal.datadir import DataDirectory, unusable
from perdure.journal.layout import check_new, find_layout, partition_directories
from perdure.journal.manifest import check_files


def check_data(data: str | os.PathLike[str], count: int) -> None:
    """Whether the directory may hold ``count`` partitions, whoever serves it now.

    Raises StoreFormat (another count, files of others, or newer), StoreDamaged, StoreError (no access).
    """
    try:
        if count > 1 and find_layout(data) is None:
            check_new(data)
        partition_directories(data, count)
        if count == 1:
            DataDirectory(data).find_format()
    except OSError as e:
        raise unusable(Path(data), e) from e


def check_stores(data: str | os.PathLike[str], count: int) -> None:
    """Whether each store is one that can be opened, as far as its own files tell; nobody may serve it.

    Raises StoreFormat, StoreDamaged, StoreError.
    """
    for path in partition_directories(data, count):
        directory = DataDirectory(path)
        if directory.find_format() is not None:
            directory.read_epoch()
            directory.read_mark()
            if directory.db.exists():  # else a crash has left its second name alone
                check_files(directory.db)
