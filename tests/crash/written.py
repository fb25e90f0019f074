"""What `store_writer.py` left behind, compared with what it had reported."""

import asyncio
from pathlib import Path

from perdure.journal.errors import StoreError
from perdure.journal.store import Store
from tests.crash.store_writer import LAST, row_key
from tests.journal.stores import open_small

WRITER = Path(__file__).with_name("store_writer.py")


def check_prefix(store: Store) -> int:
    """The last position written; every group before it must be there, whole, and nothing after."""
    last = int(store.get(LAST) or b"0")
    found = [int.from_bytes(key[1:], "big") for key, _ in store.scan(b"\x10", b"\x11")]
    opened = set(range(1, last + 1)) - set(found)
    assert found == sorted(found)
    assert not found or found[-1] == last
    assert len(opened) <= store.tail.epoch  # open records write no row
    for pos, value in zip(found, (v for _, v in store.scan(b"\x10", b"\x11")), strict=True):
        assert value.startswith(b"%d " % pos)
    assert store.get(row_key(last + 1)) is None
    return last


def last_position(path: Path) -> int:
    """Open the store, check that it holds an exact prefix, and say up to where."""
    store = open_small(path)
    try:
        return check_prefix(store)
    finally:
        asyncio.run(store.close())


def lost_count(path: Path, acknowledged: int) -> int:
    """How many of the acknowledged groups are missing; all, and at least one, where it is refused."""
    try:
        return max(0, acknowledged - last_position(path))
    except StoreError:
        return max(acknowledged, 1)


def positions(output: bytes) -> list[int]:
    """The acknowledged positions of whole lines."""
    lines = output[: output.rfind(b"\n") + 1].split()
    return [int(line) for line in lines if line.isdigit()]
