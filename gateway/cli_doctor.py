"""`perdure doctor`: looks at a data directory that no server has open, and reports."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from perdure.gateway.cli import Failure, NotFound
from perdure.gateway.cli_http import (
    EPILOG,
    json_option,
    write_fields,
    write_json,
    write_table,
)
from perdure.gateway.logs import escape
from perdure.journal import keys
from perdure.journal.errors import StoreError
from perdure.journal.inspection import Inspection, inspect
from perdure.journal.layout import EMBEDDED, directories_of, find_layout, leftovers
from perdure.journal.placement import Placement
from perdure.journal.repartition import owner_of_row
from perdure.journal.rows import check_row

_TABLES = {
    tag[0]: name
    for tag, name in (
        (keys.META, "meta"),
        (keys.INVOCATION, "invocations"),
        (keys.JOURNAL, "journal segments"),
        (keys.ACTIVE, "unfinished invocations"),
        (keys.STATE, "state"),
        (keys.INBOX, "inboxes"),
        (keys.PROMISE, "promises"),
        (keys.TIMER, "timers"),
        (keys.EXPIRY, "expiries"),
        (keys.SCHEDULE, "schedules"),
        (keys.OUTBOX, "messages to other partitions"),
        (keys.DEDUP, "partitions heard of"),
    )
}


@click.command(epilog=EPILOG)
@click.argument("data", type=click.Path(path_type=Path), metavar="DATA")
@json_option
def doctor(data: Path, as_json: bool) -> None:
    """Check the data directory DATA, read only, and report what is in it, partition by partition.

    The server that owns it must be stopped. Needs room for a copy in the temporary directory.
    """
    if not data.is_dir():
        raise NotFound(f"there is no directory {data}")
    try:
        layout = find_layout(data) or EMBEDDED
        stores = directories_of(data, layout)
        reports = [
            inspect(store, partial(_check_row, Placement(index, len(stores))))
            for index, store in enumerate(stores)
        ]
        left = [str(path) for path in leftovers(data, layout)]
    except StoreError as e:
        raise Failure(str(e)) from e
    if as_json:
        write_json(_documents(data, reports, left) if layout.generation else _document(reports[0]))
    else:
        for report in reports:
            if report is not reports[0]:
                click.echo()
            _write(report)
        for path in left:
            click.echo(
                f"{escape(path)} is left from a repartitioning; `perdure repartition --data "
                f"{escape(str(data))} --partitions {layout.count}` removes it."
            )
    if any(report.problems for report in reports):
        raise click.exceptions.Exit(Failure.exit_code)


def _check_row(placement: Placement, key: bytes, value: bytes) -> str | None:
    owner = owner_of_row(key, placement.count)
    if owner is not None and owner != placement.index:
        return f"it belongs to partition {owner}"
    return check_row(key, value)


def _documents(data: Path, reports: list[Inspection], left: list[str]) -> dict[str, Any]:
    return {
        "path": str(data),
        "sound": not any(report.problems for report in reports),
        "partitions": [_document(report) for report in reports],
        "leftovers": left,
    }


def _document(report: Inspection) -> dict[str, Any]:
    tables = {_name(tag): msgspec.to_builtins(t) for tag, t in sorted(report.tables.items())}
    return {
        "path": report.path,
        "sound": not report.problems,
        "problems": report.problems,
        "format": msgspec.to_builtins(report.format),
        "file_bytes": report.file_bytes,
        "epoch": report.epoch,
        "position": None if report.tail is None else report.tail.pos,
        "tables": tables,
    }


def _write(report: Inspection) -> None:
    write_fields(
        {
            "path": report.path,
            "store": report.format.store,
            "format": f"{report.format.engine}, version {report.format.format}",
            "files": f"{report.file_bytes:,} bytes",
            "epoch": report.epoch,
            "position": "unknown" if report.tail is None else report.tail.pos,
        }
    )
    click.echo()
    write_table(
        ("TABLE", "ROWS", "BYTES"),
        (
            (_name(tag), f"{table.rows:,}", f"{table.key_bytes + table.value_bytes:,}")
            for tag, table in sorted(report.tables.items())
        ),
        "The store is empty.",
    )
    click.echo()
    for problem in report.problems:
        click.echo(f"PROBLEM: {escape(problem)}")
    if not report.problems:
        click.echo("The store is sound.")


def _name(tag: int) -> str:
    return _TABLES.get(tag, f"table 0x{tag:02x}")
