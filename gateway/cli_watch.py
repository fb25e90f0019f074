"""`perdure watch`: the invocations that are not over, live; or one of them, until it ends."""

import json
import time
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perdure.gateway.cli import Failure
from perdure.gateway.cli_http import EPILOG, admin, admin_option, json_option
from perdure.gateway.cli_journal import read, row, status_text, tail
from perdure.gateway.logs import escape
from perdure.gateway.timeline import Line, clock

_INTERVAL_S: Final = 0.5
_LIVE_STATUSES: Final = ("running", "backing-off", "paused", "suspended", "pending", "scheduled")
_MOST_SHOWN: Final = 30  # rows of the live list


@click.command(epilog=EPILOG)
@click.argument("invocation_id", required=False, metavar="[ID]")
@click.option("--service", metavar="NAME", help="Only of this service.")
@admin_option
@json_option
def watch(invocation_id: str | None, service: str | None, url: str, as_json: bool) -> None:
    """Follow invocation ID until it ends; without ID, a live list of all that are not over.

    Ends with 0 when the invocation succeeded and with 1 when it failed. Ctrl-C only ends the watching.
    With --json: a line for each change.
    """
    try:
        if invocation_id is None:
            _list(url, service, as_json)
        else:
            _follow(url, invocation_id, as_json)
    except KeyboardInterrupt:
        return


# ---- one invocation ------------------------------------------------------------------------------


def _follow(url: str, invocation_id: str, as_json: bool) -> None:
    told: dict[int, Line] = {}
    status = ""
    while True:
        info, lines = read(url, invocation_id)
        for each in lines:
            if told.get(each.index) != each:
                told[each.index] = each
                _tell_line(each, as_json)
        if status_text(info) != status:
            status = status_text(info)
            _tell_status(info, as_json)
        if "completed_at" in info:
            if "failure" in (info.get("result") or {}):
                raise click.exceptions.Exit(Failure.exit_code)
            return
        time.sleep(_INTERVAL_S)


def _tell_line(line: Line, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(line)))
        return
    index, at, kind, *rest = row(line, full=False)
    parts = [f"{index:>4}", f"{at:12}", f"{kind:18}", *(str(each) for each in rest if each)]
    click.echo(escape("  ".join(parts)))


def _tell_status(info: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(info))
        return
    click.echo(escape(f"{clock(info['modified_at'])}  {status_text(info)}"))
    for error in tail(info):
        click.echo("    " + escape(error.partition("\n")[0]))
    failure = (info.get("result") or {}).get("failure")
    if failure:
        click.echo("    " + escape(f"{failure['message']} ({failure['code']})"))


# ---- the list ------------------------------------------------------------------------------------


def _list(url: str, service: str | None, as_json: bool) -> None:
    if as_json:
        return _list_changes(url, service)
    console = Console()
    if not console.is_terminal:
        raise click.UsageError("the live list needs a terminal: add --json for a pipe or a file")
    with Live(_table(_unfinished(url, service)), console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(_unfinished(url, service)), refresh=True)
            time.sleep(_INTERVAL_S)


def _list_changes(url: str, service: str | None) -> None:
    known: dict[str, Any] = {}
    while True:
        now = {each["id"]: each for each in _unfinished(url, service)}
        for id, info in now.items():
            if known.get(id) != info:
                click.echo(json.dumps(info))
        for id in known.keys() - now.keys():
            click.echo(json.dumps({"id": id, "status": "gone from the list"}))
        known = now
        time.sleep(_INTERVAL_S)


def _unfinished(url: str, service: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for status in _LIVE_STATUSES:
        params = {"status": status, "limit": str(_MOST_SHOWN)}
        if service is not None:
            params["service"] = service
        found += admin("GET", url, "/invocations", params=params)["invocations"]
        if len(found) >= _MOST_SHOWN:
            break
    return found[:_MOST_SHOWN]


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ID", "TARGET", "STATUS", "CREATED", "ATTEMPTS"):
        table.add_column(column, overflow="fold", no_wrap=column == "ID")  # to be copied
    for each in found:
        cells = (
            each["id"], each["target"], status_text(each), clock(each["created_at"]),
            each["attempt_count"],
        )  # fmt: skip
        table.add_row(*(Text(escape(str(cell))) for cell in cells))
    if not found:
        table.add_row("Nothing is in flight.")
    return table
