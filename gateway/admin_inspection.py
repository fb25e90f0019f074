"""Admin operations of our own tools: the supervision tree, a recording to replay, a fork of an invocation.

For engines in this process; whatever else serves the admin API answers 501. Nothing here decides
anything about an invocation.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import web

from perdure.actors.engine import Engine
from perdure.actors.tree import tree
from perdure.gateway.admin_answers import (
    bad_query,
    error,
    json_answer,
)
from perdure.gateway.admin_operations import NO_INVOCATION
from perdure.journal import recording
from perdure.journal.ids import parse_invocation_id
from perdure.journal.requests import Runtime

_Operation: TypeAlias = Callable[..., Awaitable[web.Response]]

_MOST_ACTORS: Final = 10_000
_USUAL_ACTORS: Final = "200"
_NO_ENGINE: Final = "this server runs no engine of its own"


class Inspection:
    """``operations``: by the names in the table of routes."""

    def __init__(self, runtime: Runtime) -> None:
        self._engine = runtime if isinstance(runtime, Engine) else None
        self.operations: dict[str, _Operation] = {
            "tree": self._tree,
            "recording": self._recording,
        }

    async def _tree(self, request: web.BaseRequest) -> web.Response:
        limit = request.rel_url.query.get("limit", _USUAL_ACTORS)
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit) <= _MOST_ACTORS):
            return bad_query(f"'limit' must be a number from 1 to {_MOST_ACTORS}, not '{limit}'")
        if self._engine is None:
            return error(501, _NO_ENGINE)
        return json_answer(tree(self._engine, int(limit)))

    async def _recording(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        if self._engine is None:
            return error(501, _NO_ENGINE)
        id = parse_invocation_id(invocation_id)
        await self._engine.drain()
        partition = self._engine.partition
        found = None if partition is None else recording.record(partition.tables, id)
        if found is None:
            return error(404, NO_INVOCATION.format(invocation_id))
        body = recording.encode(found)
        return web.Response(body=body, content_type="application/json")
