"""A stored invocation, from a running server or from a data directory, as what a replay begins with."""

from pathlib import Path

import msgspec

from perdure.definition import Definition
from perdure.describe import describe
from perdure.gateway.cli import Failure, NotFound
from perdure.gateway.cli_http import error_text, failure, request, segment
from perdure.journal import recording
from perdure.journal.attempt import Start
from perdure.journal.entries import Entry
from perdure.journal.errors import BadId, StoreError
from perdure.journal.ids import parse_invocation_id
from perdure.journal.inspection import read_copy
from perdure.journal.layout import directory_of
from perdure.journal.recording import Recording, StateThen
from perdure.journal.tables import Tables


def from_server(url: str, invocation_id: str) -> Recording:
    """Raises Failure (no server, unknown invocation, another kind of server)."""
    response = request("GET", url, f"/invocations/{segment(invocation_id)}/recording")
    if not response.is_success:
        raise failure(response, error_text(response, url))
    try:
        return recording.decode(response.content)
    except msgspec.DecodeError as e:
        raise Failure(f"{url} did not answer with a recording: {e}; is it of this version?") from e


def from_directory(data: Path, invocation_id: str) -> Recording:
    """From a copy, read only; the server must be stopped. Raises Failure."""
    if not data.is_dir():
        raise NotFound(f"there is no directory {data}")
    try:
        id = parse_invocation_id(invocation_id)
        with read_copy(directory_of(data, id)) as rows:
            found = recording.record(Tables(rows, NoHandlers()), id)
    except (StoreError, BadId) as e:
        raise Failure(str(e)) from e
    if found is None:
        raise NotFound(f"there is no invocation {invocation_id} in {data}")
    return found


class NoHandlers:
    """Nothing is decided here, so no handler is looked up."""

    def handler(self, service: str, handler: str, deployment_id: str | None = None) -> None:
        return None

    def handler_names(self) -> list[str]:
        return []


def find_definition(found: Recording, definitions: list[Definition]) -> Definition:
    """The service of the invocation, among those of the targets. Raises Failure."""
    by_name = {each.name: each for each in definitions}
    definition = by_name.get(found.service)
    if definition is None:
        known = ", ".join(sorted(by_name)) or "none"
        raise Failure(
            f"the invocation is of service '{found.service}', which no TARGET has; they have: {known}. "
            "Name the file that defines it (only handlers of this SDK can be replayed)."
        )
    if found.handler not in definition.handlers:
        known = ", ".join(definition.handlers)
        raise Failure(f"service '{found.service}' has no handler '{found.handler}', only {known}")
    return definition


def state_then(found: Recording) -> StateThen:
    """The state of the key when the invocation began, as far as that is known."""
    return recording.state_at_start(found.entries, found.state, holds_key=found.holds_key)


def start_of(
    found: Recording, definition: Definition, entries: tuple[Entry, ...], state: dict[str, bytes]
) -> Start:
    """What the attempt begins with."""
    handler = describe(definition).handlers[found.handler]
    return Start(
        parse_invocation_id(found.id),
        found.attempt,
        handler,
        found.key or "",
        entries,
        state,
        handler.keyed,
        found.seed,
        idempotency_key=found.idempotency_key,
        scope=found.scope,
        limit_key=found.limit_key,
    )
