"""Admin operations of our own tools: the supervision tree, a recording to replay, a fork of an invocation.

For runtimes that can be looked into; whatever else serves the admin API answers 501. Nothing here decides
anything about an invocation.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec
from aiohttp import web

from perdure.actors.processes.status import InProcesses
from perdure.gateway.admin_answers import (
    bad_query,
    error,
    json_answer,
)
from perdure.gateway.admin_operations import NO_INVOCATION
from perdure.gateway.inspected import inspection_of
from perdure.journal import recording
from perdure.journal.ids import parse_invocation_id
from perdure.journal.inspecting import ListActors, Record
from perdure.journal.requests import Runtime

_Operation: TypeAlias = Callable[..., Awaitable[web.Response]]

_MOST_ACTORS: Final = 10_000
_USUAL_ACTORS: Final = "200"
_NO_ENGINE: Final = "this server's engine cannot be looked into"


class Inspection:
    """``operations``: by the names in the table of routes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._inspection = inspection_of(runtime)
        self.operations: dict[str, _Operation] = {
            "tree": self._tree,
            "recording": self._recording,
        }

    async def _tree(self, request: web.BaseRequest) -> web.Response:
        limit = request.rel_url.query.get("limit", _USUAL_ACTORS)
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit) <= _MOST_ACTORS):
            return bad_query(f"'limit' must be a number from 1 to {_MOST_ACTORS}, not '{limit}'")
        if self._inspection is None:
            return error(501, _NO_ENGINE)
        answer = await self._inspection.inspect(ListActors(int(limit)))
        if not isinstance(self._runtime, InProcesses):
            return json_answer(answer.tree)
        shown: dict[str, Any] = msgspec.to_builtins(answer.tree)
        processes = await self._runtime.process_tree()
        return json_answer(shown | {"processes": msgspec.to_builtins(processes)})

    async def _recording(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        if self._inspection is None:
            return error(501, _NO_ENGINE)
        id = parse_invocation_id(invocation_id)
        found = (await self._inspection.inspect(Record(id))).recording
        if found is None:
            return error(404, NO_INVOCATION.format(invocation_id))
        body = recording.encode(found)
        return web.Response(body=body, content_type="application/json")
