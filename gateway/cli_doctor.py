"""`perdure doctor`: looks at a data directory that no server has open, and reports."""

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
    )
}


@click.command(epilog=EPILOG)
@click.argument("data", type=click.Path(path_type=Path), metavar="DATA")
@json_option
def doctor(data: Path, as_json: bool) -> None:
    """Check the data directory DATA, read only, and report what is in it.

    The server that owns it must be stopped. Needs room for a copy in the temporary directory.
    """
    if not data.is_dir():
        raise NotFound(f"there is no directory {data}")
    try:
        report = inspect(data, check_row)
    except StoreError as e:
        raise Failure(str(e)) from e
    if as_json:
        write_json(_document(report))
    else:
        _write(report)
    if report.problems:
        raise click.exceptions.Exit(Failure.exit_code)


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
