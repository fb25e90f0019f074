"""`perdure repartition`: another number of partitions for a data directory that no server has open."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from perdure.gateway.cli import Failure, NotFound
from perdure.gateway.cli_http import EPILOG, json_option, write_json, write_table
from perdure.journal.errors import StoreError
from perdure.journal.placement import MAX_PARTITIONS, slot_range
from perdure.journal.repartitioning import Report, Watcher
from perdure.journal.repartitioning import repartition as carry_out

_TOLD = {
    "survey": "Reading the old partitions",
    "write": "Writing {}",
    "verify": "Verifying {}",
    "move": "Syncing",
    "switch": "Switching",
    "remove": "Removing the old partitions",
}


@click.command(epilog=EPILOG)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, metavar="DIR",
    help="Directory of the data, as of `perdure up`.",
)  # fmt: skip
@click.option(
    "--partitions", "count", type=click.IntRange(1, MAX_PARTITIONS), required=True, metavar="N",
    help=f"How many partitions there shall be, 1 to {MAX_PARTITIONS}.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell what would move; nothing is written.")
@json_option
def repartition(data: Path, count: int, dry_run: bool, as_json: bool) -> None:
    """Distribute the data in DIR over N partitions.

    The server must be stopped. The new partitions are written beside the old ones and read again; only
    when they hold the same rows do they take the others' place. If the command is interrupted, even by a
    power cut, the data is as it was: run it again, and it goes on.
    """
    if not data.is_dir():
        raise NotFound(f"there is no directory {data}")
    try:
        with _progress(quiet=as_json) as watcher:
            report = carry_out(data, count, dry_run=dry_run, watcher=watcher)
    except StoreError as e:
        raise Failure(str(e)) from e
    if as_json:
        write_json(msgspec.to_builtins(report))
    else:
        _write(report, dry_run)


class _Bar(Watcher):
    """One line on standard error, where that is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def step(self, name: str, path: Path, total_rows: int | None = None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        told = _TOLD[name].format(path.name)
        self._task = self._progress.add_task(told, total=total_rows)

    def advance(self, rows: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, rows)


@contextmanager
def _progress(quiet: bool) -> Iterator[Watcher]:
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Watcher()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress)


def _write(report: Report, dry_run: bool) -> None:
    if report.old_count == report.new_count:
        click.echo(f"{report.data} has {_count(report.new_count)} already.")
        for path in report.removed:
            click.echo(f"Removed what an earlier run had left: {path}")
        return
    write_table(
        ("PARTITION", "SLOTS", "FROM", "ROWS", "BYTES"),
        (_row(report, target) for target in range(report.new_count)),
        empty="",
    )
    click.echo()
    if report.messages:
        click.echo(f"Messages on their way between partitions: {report.messages:,}, kept.")
    if dry_run:
        click.echo(
            f"Nothing was changed. {_count(report.old_count)} would become {_count(report.new_count)}; "
            f"that takes about {report.needed_bytes >> 20:,} MiB of the {report.free_bytes >> 20:,} MiB "
            "that are free, until the old ones are removed."
        )
        return
    if report.kept:
        done = ", ".join(map(str, report.kept))
        click.echo(f"Written by an earlier run, verified again: partition {done}.")
    click.echo(f"{report.data} has {_count(report.new_count)} now, verified row by row.")


def _row(report: Report, target: int) -> tuple[str, ...]:
    first, behind = slot_range(target, report.new_count)
    moves = [move for move in report.moves if move.target == target]
    return (
        str(target),
        f"{first} to {behind - 1}",
        ", ".join(str(move.source) for move in moves) or "-",
        f"{sum(move.rows for move in moves):,}",
        f"{sum(move.size_bytes for move in moves):,}",
    )


def _count(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"
