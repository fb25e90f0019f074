"""The order pipeline as a real process: killed again and again, its books come out exactly right."""

import asyncio
import csv
import io
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest

from perdure.journal import keys
from perdure.journal.entries import Completion, Entry, Input, Run, Value, decode_segment
from perdure.journal.inspection import inspect
from samples import make_orders, orders

LINES_UNTIL_KILL = (0, 1, 300, 7, 450, 1, 600)  # ledger lines that each run may add, about
_POLL_S = 0.002
_LONGEST_S = 120.0


def lines_of_the_file() -> list[orders.Line]:
    with orders.ORDERS.open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(row, orders.Line, strict=False) for row in csv.DictReader(file)]


def start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, orders.__file__],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run_to_the_end(folder: Path) -> str:
    process = start(folder)
    out, err = process.communicate(timeout=_LONGEST_S)
    assert process.returncode == 0, out + err
    return out


def ledger(folder: Path) -> list[str]:
    """The order ids, as charged."""
    path = folder / orders.LEDGER
    return [row.split(",")[0] for row in path.read_text().splitlines()] if path.exists() else []


def kill_once_charged(folder: Path, count: int) -> None:
    """SIGKILL a run as soon as the ledger has so many lines and there is a data directory."""
    process = start(folder)
    try:
        until_s = time.monotonic() + _LONGEST_S
        while not (folder / orders.DATA).exists() or len(ledger(folder)) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s, f"only {len(ledger(folder))} charges"
            time.sleep(_POLL_S)
    finally:
        process.kill()
        process.communicate()


def journaled_charges(folder: Path) -> set[str]:
    """The orders whose charge has its result in the journal, read from the store of a dead process."""
    journals: dict[bytes, list[Entry]] = {}

    def collect(key: bytes, value: bytes) -> None:
        if key[:1] == keys.JOURNAL:
            journals.setdefault(key[1:25], []).extend(decode_segment(value))

    report = inspect(folder / orders.DATA, collect)
    assert report.problems == []
    charged: set[str] = set()
    for entries in journals.values():
        runs = {each.completion_id for each in entries if isinstance(each, Run)}
        results = [
            e.result for e in entries if isinstance(e, Completion) and e.completion_id in runs
        ]
        if any(isinstance(each, Value) for each in results):
            first = entries[0]
            assert isinstance(first, Input)
            charged.add(msgspec.json.decode(first.value)["order_id"])
    return charged


def stored_units(folder: Path) -> Counter[str]:
    """What the Inventory objects say."""
    units: Counter[str] = Counter()

    def collect(key: bytes, value: bytes) -> None:
        if key[:1] == keys.STATE:
            (service, sku), _ = keys.split_state(key)
            if service == "Inventory":
                units[sku] = int(value)

    inspect(folder / orders.DATA, collect)
    return units


def test_orders_come_out_exactly_right_when_killed_seven_times(tmp_path: Path) -> None:
    done: list[tuple[int, set[str]]] = []  # at each kill: length of the ledger, journaled charges
    for added in LINES_UNTIL_KILL:
        kill_once_charged(tmp_path, len(ledger(tmp_path)) + added)
        if charged := ledger(tmp_path):
            done.append((len(charged), journaled_charges(tmp_path)))
    out = run_to_the_end(tmp_path)

    outcomes, units, cents = orders.expected(lines_of_the_file())
    charged = ledger(tmp_path)
    assert len(done) >= len(LINES_UNTIL_KILL) - 1
    assert set(charged) == set(cents)
    assert stored_units(tmp_path) == units
    for length, journaled in done:
        assert len(set(charged[:length]) - journaled) <= orders.AT_ONCE
        assert not journaled & set(charged[length:]), "a journaled charge ran again"
    assert len(done[-1][1]) > 1_000
    assert "Exactly what a plain loop over the file computes." in out
    told = re.search(r"orders +([\d,]+) +(\{.*\})", out)
    assert told is not None
    assert told[1] == f"{len(outcomes):,}"
    assert told[2] == str(dict(sorted(Counter(outcomes.values()).items())))


def test_orders_run_twice_charge_nothing_more(tmp_path: Path) -> None:
    first = run_to_the_end(tmp_path)
    before = (tmp_path / orders.LEDGER).read_bytes()
    assert " 0 sent again" in first
    second = run_to_the_end(tmp_path)
    assert (tmp_path / orders.LEDGER).read_bytes() == before
    assert without_time(second) == without_time(first)


def without_time(out: str) -> list[str]:
    return [line for line in out.splitlines() if not line.startswith(("time", "Orders"))]


def test_orders_tell_when_the_books_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(orders.ORDERS.read_text(encoding="utf-8").splitlines(True)[:20]))
    monkeypatch.setattr(orders, "ORDERS", few)
    monkeypatch.chdir(tmp_path)
    asyncio.run(orders.main())
    assert "Exactly what" in capsys.readouterr().out
    with open(orders.LEDGER, "a") as book:
        book.write("A0,1\n")  # a charge that no order made
    with pytest.raises(SystemExit, match="WRONG"):
        asyncio.run(orders.main())


def test_orders_csv_is_what_its_script_makes() -> None:
    made = io.StringIO(newline="")
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([make_orders.HEADER, *make_orders.orders(Random(make_orders.SEED))])
    assert orders.ORDERS.read_bytes() == made.getvalue().encode()


def test_orders_csv_has_awkward_rows_and_every_outcome() -> None:
    lines = lines_of_the_file()
    distinct = {line.order_id: line for line in lines}
    outcomes, units, cents = orders.expected(lines)
    assert len(distinct) == make_orders.ORDER_COUNT
    assert len(lines) == make_orders.ORDER_COUNT + make_orders.TWICE_COUNT
    assert all(distinct[line.order_id] == line for line in lines)
    assert len({line.sku for line in lines}) == 40
    assert {"placed", "declined", "out of stock"} == set(outcomes.values())
    assert any("," in line.customer for line in lines)
    assert any('"' in line.customer for line in lines)
    assert any(not line.customer.isascii() for line in lines)
    reserved_at_most = Counter(s for line in distinct.values() for s in [line.sku] * line.quantity)
    assert max(reserved_at_most.values()) <= orders.STOCK  # so no outcome depends on the order
    assert len(cents) > 1_500
    assert units.total() > len(cents)
