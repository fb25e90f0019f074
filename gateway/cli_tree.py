"""`perdure tree`: the supervision tree of a running server."""

import time
from typing import Any, Final

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from perdure.gateway.cli_http import EPILOG, admin, admin_option, json_option, write_json
from perdure.gateway.logs import escape
from perdure.gateway.timeline import span_text

_INTERVAL_S: Final = 1.0
_COLUMNS: Final = ("STATE", "PID", "AGE", "RESTARTS", "MAIL", "WAITING", "ATTEMPTS", "LAST ERROR")
_WORKER_LEVEL: Final = 3  # of gateways and partitions, below watchdog, Admin and supervisor


class _Line(msgspec.Struct, frozen=True):
    """A row of the table; ``cells`` are those under ``_COLUMNS``."""

    level: int
    name: str
    cells: tuple[object, ...]


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


def _render(found: dict[str, Any]) -> Group:
    """A table whose first column is drawn as a tree; what is restarted when, below it."""
    processes = found.get("processes")
    lines = _embedded(found) if processes is None else _processes(processes, found["actors"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [n for n, name in enumerate(_COLUMNS) if processes is not None or name != "PID"]
    for column in ("ACTOR", *(_COLUMNS[n] for n in shown)):
        table.add_column(column, overflow="fold")
    for line, branch in zip(lines, _branches([line.level for line in lines]), strict=True):
        table.add_row(*_texts(branch + line.name, *(line.cells[n] for n in shown)))
    notes = [] if processes is None else _rules(processes)
    hidden = found["actor_count"] - len(found["actors"])
    if hidden > 0:
        notes.append(f"and {hidden} more; --limit shows them")
    return Group(table, *_texts(*([""] if notes else []), *notes))


def _embedded(found: dict[str, Any]) -> list[_Line]:
    down = found["down"]
    limit, window_s = found["restart_limit"], found["restart_window_s"]
    rule = f"engine ({found['strategy']}, at most {limit} restarts in {window_s:g} s)"
    state = f"down: {down}" if down else "up"
    engine = _Line(0, rule, (state, "", "", found["partition_restarts"] or "", "", "", "", ""))
    return [engine, *(_actor(each, 1) for each in found["actors"])]


def _processes(tree: dict[str, Any], actors: list[dict[str, Any]]) -> list[_Line]:
    """The processes, and below each partition its actors."""
    restarts, error = tree["restart_count"] or "", tree["last_error"]
    rest = ("", "", "", "", "")
    lines = [
        _Line(0, "watchdog", ("up", tree["watchdog_pid"], "", restarts, "", "", "", error)),
        _Line(1, "Admin", ("up", tree["admin_pid"], "", *rest)),
        _Line(2, "supervisor", ("up", tree["supervisor_pid"], "", *rest)),
    ]
    for each in sorted(tree["workers"], key=lambda each: str(each["kind"])):
        lines.append(_worker(each))
        if each["kind"] == "partition":
            index = int(each["name"].rpartition("-")[2])
            own = (actor for actor in actors if actor["partition"] == index)
            lines += (_actor(actor, _WORKER_LEVEL + 1) for actor in own)
    return lines


def _worker(each: dict[str, Any]) -> _Line:
    age, restarts = span_text(each["age_ms"]), each["restart_count"] or ""
    cells = (each["state"], each["pid"] or "", age, restarts, "", "", "", each["last_error"])
    return _Line(_WORKER_LEVEL, each["name"], cells)


def _rules(tree: dict[str, Any]) -> list[str]:
    """When workers of a kind are started again, a line each."""
    rules = {str(each["kind"]): each["strategy"] for each in tree["workers"]}
    return [f"{kind}s: {rules[kind]}" for kind in sorted(rules)]


def _actor(each: dict[str, Any], level: int) -> _Line:
    name = each["actor"]
    if each.get("service") is not None:
        name = f"{each['service']}/{each['key']}" if each["key"] else each["service"]
    counts = (each["restarts"], each["mailbox_depth"], each["waiting_count"], each["attempt_count"])
    age = span_text(each["age_s"] * 1000)
    cells = (each["state"], "", age, *(count or "" for count in counts), each["last_error"])
    return _Line(level + each["level"], name, cells)


def _branches(levels: list[int]) -> list[str]:
    """What to draw before each row of a tree whose parents come before their children."""
    drawn: list[str] = []
    goes_on: set[int] = set()  # levels with another row below, under the same parent
    for level in reversed(levels):
        trunk = "".join("│   " if each in goes_on else "    " for each in range(1, level))
        own = "├── " if level in goes_on else "└── "
        drawn.append(trunk + own if level else "")
        goes_on = {each for each in goes_on if each < level} | {level}
    return drawn[::-1]


def _texts(*values: object) -> list[Text]:
    return [Text(escape(str(each))) for each in values]
