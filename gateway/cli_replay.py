"""`perdure replay`: runs the handler of a stored invocation here, against its journal, with no effect."""

import asyncio
import inspect
import pdb
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from perdure.definition import Definition
from perdure.embedded import flatten
from perdure.endpoint import Codec
from perdure.entry_codec import JournalValueCodec
from perdure.gateway import stored
from perdure.gateway.admin_models import value_json
from perdure.gateway.cli import Failure
from perdure.gateway.cli_http import (
    EPILOG,
    admin_option,
    json_option,
    value_text,
    write_json,
    write_table,
)
from perdure.gateway.logs import escape
from perdure.gateway.settings import SettingsError
from perdure.gateway.targets import load_targets
from perdure.journal.entries import Entry, is_command
from perdure.journal.recording import Recording, StateThen
from perdure.rehearsal import How, Rehearsed, rehearse, stack_of

_SENTENCES: Final = {
    How.MATCHED: "The handler ended as recorded.",
    How.NEXT: "The record ends here. Next the handler would issue:",
    How.ENDS: "The record ends here. Next the handler would end:",
    How.RUNS: "Next the closure of this run would start:",
    How.WAITS: "The record ends here. The handler waits for:",
    How.RAISED: "The handler raised what is no answer; production would try again:",
    How.MISMATCH: "The handler diverged from its journal:",
    How.QUIT: "Stopped in the debugger.",
}
_BAD: Final = (How.RAISED, How.MISMATCH)


@click.command(epilog=EPILOG)
@click.argument("invocation_id", metavar="ID")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR",
    help="Read the invocation from a data directory, read only; its server must be stopped.",
)  # fmt: skip
@click.option(
    "--until", type=click.IntRange(min=1), metavar="N",
    help="Stop before journal entry N, as if nothing from there on had happened.",
)  # fmt: skip
@click.option(
    "--pdb", "debug", is_flag=True,
    help="Debug: stop at the handler's first line, and where the replay ends.",
)  # fmt: skip
@admin_option
@json_option
def replay(
    invocation_id: str,
    targets: tuple[str, ...],
    data: Path | None,
    until: int | None,
    debug: bool,
    url: str,
    as_json: bool,
) -> None:
    """Run the handler of a stored invocation here, against its journal.

    TARGET is the file or module with the handler, as for `perdure up`. Commands are matched with the
    record and not carried out; where the record ends, the replay ends, and says what would come next.
    Closures of `ctx.run` do not start. Breakpoints in the handler work. Code outside of `ctx.run` runs.
    """
    definitions, codec = _load(targets)
    if data is None:
        found = stored.from_server(url, invocation_id)
    else:
        found = stored.from_directory(data, invocation_id)
    definition = stored.find_definition(found, definitions)
    entries = _entries(found, until)
    state = stored.state_then(found)
    if not as_json:
        _introduce(found, entries, state)
    ended = _rehearse(found, definition, entries, state, codec, debug)
    if as_json:
        write_json(_document(found, entries, state, ended))
    else:
        _conclude(found, entries, ended)
    if debug:
        _post_mortem(ended)
    if ended.how in _BAD:
        raise click.exceptions.Exit(Failure.exit_code)


def _load(targets: tuple[str, ...]) -> tuple[list[Definition], Codec | None]:
    try:
        return flatten(load_targets(list(targets)))
    except SettingsError as e:
        raise click.UsageError(str(e)) from e


def _entries(found: Recording, until: int | None) -> tuple[Entry, ...]:
    if not found.entries:
        raise Failure(
            f"the journal of {found.id} is gone: it was purged, or its retention is over, so there is "
            "nothing to replay"
        )
    if until is not None and until > len(found.entries):
        raise click.UsageError(
            f"--until {until}: the journal has {len(found.entries)} entries, from 0 on"
        )
    return found.entries[:until]


def _rehearse(
    found: Recording,
    definition: Definition,
    entries: tuple[Entry, ...],
    state: StateThen,
    codec: Codec | None,
    debug: bool,
) -> Rehearsed:
    start = stored.start_of(found, definition, entries, dict(state.values))
    handler = definition.handlers[found.handler]

    async def run() -> Rehearsed:
        made: Any = codec
        if codec is not None and not isinstance(codec, JournalValueCodec):
            made = codec()
            made = await made if inspect.isawaitable(made) else made
        debugger = pdb.Pdb(nosigint=True) if debug else None
        return await rehearse(start, handler, codec=made, debugger=debugger)

    return asyncio.run(run())


def _post_mortem(ended: Rehearsed) -> None:
    stack = None if ended.error is None else stack_of(ended.error)
    if ended.how is How.QUIT:
        return
    if stack is None:
        click.echo("There is no stack to look at: the handler is over.")
        return
    debugger = pdb.Pdb()
    debugger.reset()
    debugger.interaction(None, stack)


# ---- output --------------------------------------------------------------------------------------


def _introduce(found: Recording, entries: tuple[Entry, ...], state: StateThen) -> None:
    middle = "" if found.key is None else f"/{found.key}"
    click.echo(escape(f"{found.service}{middle}/{found.handler}  {found.id}"))
    shown = f"{len(entries)} of {len(found.entries)}"
    click.echo(f"Replaying {shown} journal entries.")
    if found.deployment_id:
        click.echo(
            f"It ran in deployment {escape(found.deployment_id)}; the replay matches if that is on this SDK, "
            "and TARGET is the same code."
        )
    if found.key is not None:
        rows = ((name, value_text(_plain(value))) for name, value in sorted(state.values.items()))
        click.echo()
        write_table(("STATE AT THE START", "VALUE"), rows, "No state at the start.")
        if state.unsure:
            names = ", ".join(map(repr, state.unsure))
            click.echo(
                escape(f"Not in the journal, so these values are the present ones: {names}.")
            )
        click.echo()


def _conclude(found: Recording, entries: tuple[Entry, ...], ended: Rehearsed) -> None:
    click.echo(_SENTENCES[ended.how])
    for line in ended.text.split("\n") if ended.text else ():
        click.echo("  " + escape(line))
    if ended.where:
        click.echo("  at " + escape(ended.where))
    if len(entries) < len(found.entries) and ended.how in (How.NEXT, How.ENDS, How.WAITS):
        click.echo(f"The journal goes on with entry {len(entries)}.")
    click.echo(f"Matched commands: {_matched(entries, ended)} of {_commands(entries)}.")


def _commands(entries: tuple[Entry, ...]) -> int:
    """How many the handler issued; the input is not its own."""
    return sum(map(is_command, entries)) - 1


def _matched(entries: tuple[Entry, ...], ended: Rehearsed) -> int:
    return min(ended.command_index - 1, _commands(entries))


def _document(
    found: Recording, entries: tuple[Entry, ...], state: StateThen, ended: Rehearsed
) -> dict[str, Any]:
    return {
        "id": found.id,
        "outcome": ended.how.value,
        "text": ended.text,
        "where": ended.where,
        "entries_replayed": len(entries),
        "entries_stored": len(found.entries),
        "commands_matched": _matched(entries, ended),
        "commands_stored": _commands(entries),
        "state_at_start": {name: _plain(value) for name, value in state.values.items()},
        "state_unsure": list(state.unsure),
        "state_at_end": {name: _plain(value) for name, value in ended.state.items()},
    }


def _plain(value: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value_json(value)))
    return plain
