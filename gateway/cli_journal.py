"""`perdure journal`: the timeline of one invocation in the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec

from perdure.gateway.cli import NotFound
from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    write_fields,
    write_json,
    write_table,
)
from perdure.gateway.logs import escape
from perdure.gateway.timeline import Line, child_ids, clock, parse, span_text, timeline

MOST_CHILDREN: Final = 50  # called invocations that are looked up for their times
_WIDTH: Final = 60  # of a value, unless all of it is asked for


@click.command(epilog=EPILOG)
@click.argument("invocation_id", metavar="ID")
@click.option("--full", is_flag=True, help="Show values in full length.")
@admin_option
@json_option
def journal(invocation_id: str, full: bool, url: str, as_json: bool) -> None:
    """Show one invocation as a timeline: what it did, what came back, what it waits for."""
    info, lines = read(url, invocation_id)
    if as_json:
        shown = [msgspec.to_builtins(each) for each in lines]
        write_json({"invocation": info, "timeline": shown})
        return
    write_fields(dict(head(info)))
    click.echo()
    write_table(*table(lines, full), "The journal is empty: purged, or not kept.")
    for error in tail(info):
        click.echo()
        _write_error(error, full)


def read(url: str, invocation_id: str) -> tuple[dict[str, Any], list[Line]]:
    """The invocation, and its timeline with the times of those that it called."""
    path = f"/invocations/{segment(invocation_id)}"
    info = admin("GET", url, path)
    entries = admin("GET", url, path + "/journal")["entries"]
    children = {}
    for child_id in child_ids(entries)[:MOST_CHILDREN]:
        try:
            children[child_id] = admin("GET", url, f"/invocations/{segment(child_id)}")
        except NotFound:  # its retention is over
            continue
    return info, timeline(info, entries, children)


# ---- output --------------------------------------------------------------------------------------


def head(info: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "id", info["id"]
    yield "target", info["target"]
    yield "status", status_text(info)
    yield "created", info["created_at"]
    if "completed_at" in info:
        took = parse(info["completed_at"]) - parse(info["created_at"])
        yield "took", span_text(took.total_seconds() * 1000)
    yield "attempts", info["attempt_count"]
    if info["invoked_by"] != "ingress":
        yield "invoked by", info["invoked_by"]
    yield "restarted from", info.get("restarted_from")
    yield "idempotency key", info.get("idempotency_key")


def status_text(info: Mapping[str, Any]) -> str:
    status = str(info["status"])
    if info.get("next_retry_at"):
        return f"{status} until {clock(info['next_retry_at'])}"
    if info.get("scheduled_at"):
        return f"{status} at {info['scheduled_at']}"
    if info.get("awaiting"):
        return f"{status}, waits for {info['awaiting']}"
    if info.get("paused_reason"):
        return f"{status}: {info['paused_reason']}"
    if "failure" in (info.get("result") or {}):
        return f"{status}, failed"
    return status


def table(
    lines: list[Line], full: bool = False
) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
    """Columns and rows."""
    columns = ("#", "AT", "COMMAND", "WHAT", "GIVEN", "RESULT", "TOOK")
    return columns, (row(each, full) for each in lines)


def row(line: Line, full: bool) -> tuple[object, ...]:
    result = _cut(line.result, full)
    if line.error:
        result = "ERROR " + _cut(line.error.partition("\n")[0], full)
    elif line.state == "failed":
        result = "FAILED " + result
    elif line.state == "waiting":
        result = "..."
    return (
        line.index,
        clock(line.at),
        line.type,
        line.what,
        _cut(line.given, full),
        result,
        span_text(line.took_ms),
    )


def tail(info: Mapping[str, Any]) -> Iterator[str]:
    """The last failure, where it still matters."""
    failure = info.get("last_failure")
    if failure and "completed_at" not in info:
        stack = failure.get("stacktrace", "")
        yield f"{failure['message']} ({failure['code']})" + (f"\n{stack}" if stack else "")


def _write_error(error: str, full: bool) -> None:
    first, *stack = error.rstrip("\n").split("\n")
    hint = " [--full shows the stack]" if stack and not full else ""
    click.echo(f"last error  {escape(first)}{hint}")
    for line in stack if full else ():
        click.echo("    " + escape(line))


def _cut(text: str, full: bool) -> str:
    return text if full or len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
