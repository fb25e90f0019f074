"""The invocations that new code has to go on with: from a running server, or from a data directory.

Reads only. What is made of them: gateway/checking.py.
"""

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from perdure.gateway import stored
from perdure.gateway.checking import Candidate
from perdure.gateway.cli import Failure, NotFound
from perdure.gateway.cli_http import admin, query_rows
from perdure.gateway.deployment_uri import IN_PROCESS, is_version
from perdure.gateway.registry_file import RegistryFile
from perdure.journal import keys, recording, records
from perdure.journal.entries import is_command
from perdure.journal.errors import StoreError
from perdure.journal.inspection import Copy, read_copy
from perdure.journal.layout import stores_of
from perdure.journal.recording import Recording
from perdure.journal.records import Completed, Invocation
from perdure.journal.tables import Tables

_CHUNK: Final = 1_000  # rows at a time
_UNFINISHED: Final = "select id from sys_invocation where status <> 'completed'"
_COMPLETED: Final = (
    "select id from sys_invocation where status = 'completed' order by modified_at desc limit {}"
)


class Homes:
    """Where handlers run, by deployment and by service, as far as somebody registered it."""

    def __init__(self, deployments: Iterable[tuple[str, str, Iterable[tuple[str, int]]]]) -> None:
        """Of each deployment its id, its URI, and its services with their revisions."""
        self._uris: dict[str, str] = {}
        newest: dict[str, tuple[int, str]] = {}
        for id, uri, services in deployments:
            self._uris[id] = uri
            for name, revision in services:
                newest[name] = max(newest.get(name, (0, "")), (revision, uri))
        self._of_service = {name: uri for name, (_, uri) in newest.items()}

    def is_elsewhere(self, found: Recording) -> bool:
        """Whether it runs, or will run, in another deployment than the handlers of this SDK in process."""
        if found.deployment_id:
            return not _is_ours(self._uris.get(found.deployment_id, ""))
        if sum(map(is_command, found.entries)) > 1:  # it began in the process
            return False
        return not _is_ours(self._of_service.get(found.service, IN_PROCESS))


def _is_ours(uri: str) -> bool:
    return uri == IN_PROCESS or is_version(uri)


# ---- a running server ----------------------------------------------------------------------------


def from_server(url: str, completed: int) -> Iterator[Candidate]:
    """All that are unfinished, and the newest ``completed`` ones. Raises Failure."""
    homes = _homes_of_server(url)
    for row in query_rows(url, _UNFINISHED):
        yield from _candidate(url, homes, row["id"], is_completed=False)
    if completed:
        for row in query_rows(url, _COMPLETED.format(completed)):
            yield from _candidate(url, homes, row["id"], is_completed=True)


def _candidate(url: str, homes: Homes, id: str, *, is_completed: bool) -> Iterator[Candidate]:
    try:
        found = stored.from_server(url, id)
    except NotFound:  # it ended, and was purged, since it was listed
        return
    yield Candidate(found, is_completed, homes.is_elsewhere(found))


def _homes_of_server(url: str) -> Homes:
    return Homes(
        (
            each["id"],
            each.get("uri", IN_PROCESS),
            [(service["name"], service["revision"]) for service in each["services"]],
        )
        for each in admin("GET", url, "/deployments")["deployments"]
    )


# ---- a data directory ----------------------------------------------------------------------------


def from_directory(data: Path, completed: int) -> Iterator[Candidate]:
    """All that are unfinished, and the newest ``completed`` ones; the server must be stopped.

    Reads copies of the stores. Raises Failure.
    """
    if not data.is_dir():
        raise NotFound(f"there is no directory {data}")
    homes = _homes_of_directory(data)
    newest: list[tuple[int, str, Candidate]] = []  # a heap, over all stores
    try:
        for store in stores_of(data):
            with read_copy(store) as rows:
                for candidate, ended_at_ms in _candidates(rows, homes, completed):
                    if not candidate.is_completed:
                        yield candidate
                    else:
                        heapq.heappush(newest, (ended_at_ms, candidate.recording.id, candidate))
                    if len(newest) > completed:
                        heapq.heappop(newest)
    except StoreError as e:
        raise Failure(str(e)) from e
    for _, _, candidate in sorted(newest, key=lambda each: each[:2], reverse=True):
        yield candidate


def _homes_of_directory(data: Path) -> Homes:
    try:
        found = RegistryFile(data).read().deployments
    except StoreError as e:
        raise Failure(str(e)) from e
    return Homes(
        (each.id, each.uri, [(service.name, service.revision) for service in each.services])
        for each in found
    )


def _candidates(rows: Copy, homes: Homes, completed: int) -> Iterator[tuple[Candidate, int]]:
    """Of one store, with the time of the end; the newest ``completed`` of those that ended."""
    tables = Tables(rows, stored.NoHandlers())
    ended: list[tuple[int, bytes]] = []  # a heap
    for id, record in _invocations(rows):
        if type(record.status) is Completed:
            if completed:
                heapq.heappush(ended, (record.status.completed_at_ms, id))
            if len(ended) > completed:
                heapq.heappop(ended)
            continue
        found = recording.record(tables, id)
        assert found is not None, "its row was just read"
        yield Candidate(found, False, homes.is_elsewhere(found)), 0
    for ended_at_ms, id in ended:
        found = recording.record(tables, id)
        assert found is not None, "its row was just read"
        yield Candidate(found, True, homes.is_elsewhere(found)), ended_at_ms


def _invocations(rows: Copy) -> Iterator[tuple[bytes, Invocation]]:
    start = keys.INVOCATION
    while True:
        chunk = rows.scan(start, keys.JOURNAL, _CHUNK)
        for key, value in chunk:
            yield key[1:], records.decode_invocation(value)
        if len(chunk) < _CHUNK:
            return
        start = chunk[-1][0] + b"\x00"
