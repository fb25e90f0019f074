"""A child process for crash tests: appends to a store and reports each position once it is durable.

    store_writer.py PATH [--unsynced] [--count N] [--size BYTES]

Prints ``POS`` after each append, ``failed`` when the store failed and ``late POS`` if anything was
acknowledged after that. Group POS writes row POS and the row ``last``, both holding POS.
"""

import argparse
import asyncio
import os
from pathlib import Path

from perdure.journal.errors import StoreFailed
from perdure.journal.leveldb import LevelDBOptions, LevelDBStore, open_store
from perdure.journal.store import next_group

LAST = b"\x20last"


def row_key(pos: int) -> bytes:
    return b"\x10" + pos.to_bytes(8, "big")


def report(text: str) -> None:
    os.write(1, text.encode() + b"\n")


async def append(store: LevelDBStore, size: int) -> int:
    pos = b"%d" % (store.tail.pos + 1)
    value = pos + b" " + os.urandom(size)
    group = next_group(store.tail, os.urandom(16), [(row_key(int(pos)), value), (LAST, pos)])
    return (await store.append(group, store.tail)).pos


async def run(store: LevelDBStore, count: int, size: int) -> None:
    for _ in range(count):
        try:
            report(f"{await append(store, size)}")
        except StoreFailed:
            report("failed")
            break
    else:
        await store.close()
        return
    for _ in range(5):
        try:
            report(f"late {await append(store, size)}")
        except StoreFailed:
            continue
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--unsynced", action="store_true")
    parser.add_argument("--count", type=int, default=1 << 40)
    parser.add_argument("--size", type=int, default=200)
    args = parser.parse_args()
    # The mark stays where it was at open, so that losses are found by what is missing.
    options = LevelDBOptions(write_buffer_bytes=64 << 10, reserve_bytes=0, mark_interval_s=3600.0)
    store = open_store(args.path, new_id=lambda: os.urandom(16), options=options)
    if args.unsynced:
        store._sync = False
    asyncio.run(run(store, args.count, args.size))


if __name__ == "__main__":
    main()
