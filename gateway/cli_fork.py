"""`perdure fork`: a new invocation that begins with an edited part of another one's journal."""

import base64
import json
from typing import Any

import click

from perdure.gateway.cli import Failure
from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    write_json,
)

_COMMANDS_WITH_VALUES = ("input", "get_eager_state", "output")
_NOTIFICATIONS = ("completion", "signal")


@click.command(epilog=EPILOG)
@click.argument("invocation_id", metavar="ID")
@click.option(
    "--from", "from_index", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="The last journal entry that it begins with; 0 is the input alone.",
)  # fmt: skip
@click.option(
    "--set", "pairs", multiple=True, metavar="N=JSON",
    help="Another value in entry N: the input, a read of state, or the result of a command. Repeatable.",
)  # fmt: skip
@click.option(
    "--deployment", metavar="ID", help="Where it runs: keep, latest, or a deployment's id."
)
@admin_option
@json_option
def fork(
    invocation_id: str,
    from_index: int,
    pairs: tuple[str, ...],
    deployment: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Run a completed invocation again as a new one, from a part of its journal, edited.

    What is in the part is not carried out again. `perdure journal ID` shows the entries' numbers.
    """
    path = f"/invocations/{segment(invocation_id)}"
    edits = [_edit(each) for each in pairs]
    if edits:
        entries = admin("GET", url, path + "/journal")["entries"]
        edits = [(_place(entries, index), value) for index, value in edits]
    body: dict[str, Any] = {
        "from": from_index,
        "edits": [{"index": i, "value": base64.b64encode(v).decode()} for i, v in edits],
    }
    if deployment is not None:
        body["deployment"] = deployment
    found = admin("POST", url, path + "/fork", content=json.dumps(body).encode())
    if as_json:
        write_json(found)
    else:
        click.echo(found["new_invocation_id"])


def _edit(pair: str) -> tuple[int, bytes]:
    number, equals, text = pair.partition("=")
    if not equals or not (number.isascii() and number.isdigit()):
        raise click.UsageError(f"--set expects N=JSON, such as 3='\"Bob\"', not '{pair}'")
    try:
        json.loads(text)
    except ValueError as e:
        raise click.UsageError(
            f"--set {number}: the value is not JSON: {e}. Texts need double quotes inside the shell's "
            "single ones, such as '3=\"Bob\"'."
        ) from e
    return int(number), text.encode()


def _place(entries: list[dict[str, Any]], index: int) -> int:
    """Where the value of entry ``index`` stands: for most commands, in the entry that answers them."""
    if index >= len(entries):
        raise click.UsageError(f"--set {index}: the journal has {len(entries)} entries, from 0 on")
    entry = entries[index]
    entry = {**entry.get("command", {}), **entry} if "wire" in entry else entry
    if entry["type"] in (*_NOTIFICATIONS, *_COMMANDS_WITH_VALUES):
        return index
    completion_id = entry.get("completion_id")
    for each in entries:
        if each["type"] == "completion" and each["completion_id"] == completion_id:
            return int(each["index"])
    raise Failure(f"entry {index} ({entry['type']}) has no value that could be another one")
