"""`perdure state`: read and change the state of one object or workflow key.

A change replaces the whole state in the key's turn, and only if it is still the one that was read.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any, Final

import click

from perdure.gateway.cli import Failure, NotFound
from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    value_text,
    write_json,
    write_table,
)
from perdure.journal.state_version import state_version

_WAIT_S: Final = 5.0
_POLL_INTERVAL_S: Final = 0.05

_State = dict[str, Any]


@click.group(epilog=EPILOG)
def state() -> None:
    """Read and change the state of SERVICE/KEY."""


@state.command(epilog=EPILOG)
@click.argument("target", metavar="SERVICE/KEY")
@click.argument("name", required=False, metavar="[NAME]")
@admin_option
@json_option
def get(target: str, name: str | None, url: str, as_json: bool) -> None:
    """Write the whole state, or the value of NAME."""
    service, key = _split(target)
    found = _read(url, service, key)
    values: _State = found["state"]
    if name is None:
        if as_json:
            write_json(found)
        else:
            rows = ((each, value_text(value)) for each, value in values.items())
            write_table(("NAME", "VALUE"), rows, f"{service}/{key} has no state.")
        return
    if name not in values:
        raise NotFound(f"{service}/{key} has no state '{name}'")
    if as_json:
        write_json(values[name])
    else:
        click.echo(value_text(values[name]))


@state.command("set", epilog=EPILOG)
@click.argument("target", metavar="SERVICE/KEY")
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="JSON")
@admin_option
@json_option
def set_(target: str, name: str, value: str, url: str, as_json: bool) -> None:
    """Set NAME to a JSON value, in the key's turn."""
    try:
        json.loads(value)
    except ValueError as e:
        raise click.UsageError(
            f"the value is not JSON: {e}. Texts need double quotes inside the shell's single ones, "
            "such as '\"Bob\"'."
        ) from e
    _change(target, url, as_json, lambda values: values | {name: list(value.encode())})


@state.command(epilog=EPILOG)
@click.argument("target", metavar="SERVICE/KEY")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@admin_option
@json_option
def clear(target: str, names: tuple[str, ...], url: str, as_json: bool) -> None:
    """Remove the given names, or the whole state where none is given."""

    def without(values: dict[str, list[int]]) -> dict[str, list[int]]:
        return {each: v for each, v in values.items() if names and each not in names}

    _change(target, url, as_json, without)


def _change(
    target: str,
    url: str,
    as_json: bool,
    edit: Callable[[dict[str, list[int]]], dict[str, list[int]]],
) -> None:
    service, key = _split(target)
    found = _read(url, service, key)
    old = {name: list(base64.b64decode(v["base64"])) for name, v in found["state"].items()}
    new = edit(old)
    body = {"object_key": key, "version": found["version"], "new_state": new}
    admin("POST", url, f"/services/{segment(service)}/state", content=json.dumps(body).encode())
    outcome = _await_change(url, service, key, found["version"], new)
    if as_json:
        write_json({"service": service, "key": key, "outcome": outcome})
    else:
        click.echo(_OUTCOMES[outcome].format(f"{service}/{key}"))
    if outcome == "overtaken":
        raise click.exceptions.Exit(Failure.exit_code)


_OUTCOMES: Final = {
    "done": "The state of {} is changed.",
    "queued": "The change of {} is queued: it is carried out after the invocation that runs there.",
    "overtaken": "The state of {} changed meanwhile, so nothing was done; look again and repeat it.",
}


def _await_change(
    url: str, service: str, key: str, old_version: str, new: dict[str, list[int]]
) -> str:
    """How the change ended, as far as it can be seen within a few seconds."""
    wanted = state_version({name: bytes(value) for name, value in new.items()})
    give_up_at = time.monotonic() + _WAIT_S
    while time.monotonic() < give_up_at:
        version = _read(url, service, key)["version"]
        if version == wanted:
            return "done"
        if version != old_version:
            return "overtaken"
        time.sleep(_POLL_INTERVAL_S)
    return "queued"


def _read(url: str, service: str, key: str) -> dict[str, Any]:
    found = admin("GET", url, f"/services/{segment(service)}/state/{segment(key)}")
    assert isinstance(found, dict)
    return found


def _split(target: str) -> tuple[str, str]:
    service, slash, key = target.partition("/")
    if not slash or not service:
        raise click.UsageError(f"'{target}' is not SERVICE/KEY, such as Counter/alice")
    return service, key
