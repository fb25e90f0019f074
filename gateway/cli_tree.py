"""`perdure tree`: the supervision tree of a running server."""

import time
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perdure.gateway.cli_http import EPILOG, admin, admin_option, json_option, write_json
from perdure.gateway.logs import escape
from perdure.gateway.timeline import span_text

_INTERVAL_S: Final = 1.0
_COLUMNS: Final = ("STATE", "PID", "AGE", "RESTARTS", "MAIL", "WAITING", "ATTEMPTS", "LAST ERROR")
_WORKER_LEVEL: Final = 2  # of gateways and partitions, below watchdog, Admin and supervisor


@click.command(epilog=EPILOG)
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True)
@admin_option
@json_option
def tree(watch: bool, limit: int, url: str, as_json: bool) -> None:
    """Show every process and actor with its state, age, restarts, last error and mailbox.

    MAIL: messages that an actor has not taken. WAITING: invocations that wait for the key's lock.
    """
    if not watch:
        found = _read(url, limit)
        if as_json:
            write_json(found)
        else:
            _console().print(_render(found))
        return
    if as_json:
        raise click.UsageError("--watch is for people; call it again and again with --json")
    with Live(_render(_read(url, limit)), console=_console(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_INTERVAL_S)
                live.update(_render(_read(url, limit)), refresh=True)
        except KeyboardInterrupt:
            return


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _read(url: str, limit: int) -> dict[str, Any]:
    found: dict[str, Any] = admin("GET", url, "/tree", params={"limit": str(limit)})
    return found


def _render(found: dict[str, Any]) -> Table:
    """A table whose first column is drawn as a tree."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("ACTOR", *_COLUMNS):
        table.add_column(column, overflow="fold")
    processes = found.get("processes")
    actors = found["actors"]
    if processes is None:
        table.add_row(*_engine(found))
        _add_actors(table, actors, 0)
    else:
        _add_processes(table, processes, actors)
    hidden = found["actor_count"] - len(actors)
    if hidden > 0:
        table.add_row(*_cells(f"    and {hidden} more", *[""] * len(_COLUMNS)))
    return table


def _engine(found: dict[str, Any]) -> list[Text]:
    down = found["down"]
    restarts = found["partition_restarts"]
    limit, window_s = found["restart_limit"], found["restart_window_s"]
    rule = f"engine ({found['strategy']}, at most {limit} restarts in {window_s:g} s)"
    state = f"down: {down}" if down else "up"
    return _cells(rule, state, "", "", restarts or "", "", "", "", "")


def _add_processes(table: Table, tree: dict[str, Any], actors: list[dict[str, Any]]) -> None:
    """The processes, and below each partition its actors."""
    restarts, error = tree["restart_count"] or "", tree["last_error"]
    rest = ("", "", "", "")
    table.add_row(*_cells("watchdog", "up", tree["watchdog_pid"], "", restarts, *rest[1:], error))
    table.add_row(*_cells("└── Admin", "up", tree["admin_pid"], "", "", *rest))
    table.add_row(*_cells("    └── supervisor", "up", tree["supervisor_pid"], "", "", *rest))
    workers = sorted(tree["workers"], key=lambda each: str(each["kind"]))
    for each in workers:
        branch = "└── " if each is workers[-1] else "├── "
        table.add_row(
            *_cells(
                "    " * _WORKER_LEVEL + branch + f"{each['name']} ({each['strategy']})",
                each["state"],
                each["pid"] or "",
                span_text(each["age_ms"]),
                each["restart_count"] or "",
                *rest[1:],
                each["last_error"],
            )
        )
        if each["kind"] == "partition":
            index = int(each["name"].rpartition("-")[2])
            own = [actor for actor in actors if actor["partition"] == index]
            _add_actors(table, own, _WORKER_LEVEL + 1)


def _add_actors(table: Table, actors: list[dict[str, Any]], level: int) -> None:
    for index, each in enumerate(actors):
        table.add_row(*_row(each, level, _is_last(actors, index)))


def _is_last(actors: list[dict[str, Any]], index: int) -> bool:
    """Whether no sibling follows."""
    level = actors[index]["level"]
    for each in actors[index + 1 :]:
        if each["level"] <= level:
            return bool(each["level"] < level)
    return True


def _row(each: dict[str, Any], level: int, is_last: bool) -> list[Text]:
    branch = "    " * (level + each["level"]) + ("└── " if is_last else "├── ")
    name = each["actor"]
    if each.get("service") is not None:
        name = f"{each['service']}/{each['key']}" if each["key"] else each["service"]
    return _cells(
        branch + name,
        each["state"],
        "",
        span_text(each["age_s"] * 1000),
        each["restarts"] or "",
        each["mailbox_depth"] or "",
        each["waiting_count"] or "",
        each["attempt_count"] or "",
        each["last_error"],
    )


def _cells(*values: object) -> list[Text]:
    return [Text(escape(str(each))) for each in values]
