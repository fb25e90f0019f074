"""What lies under /ui: the files, and the read API of the pages at /ui/api.

One instance belongs to the admin server, which has already checked who asks. Reads go to committed
rows in threads and are bounded; what changes anything goes through the ``Runtime`` like every other
request. The API is the pages' own: it may change with them.
"""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec
from aiohttp import hdrs, web

from perdure.gateway.admin_answers import (
    bad_query,
    error,
    json_answer,
    json_body,
    misshapen,
    no_service,
    not_json,
)
from perdure.gateway.admin_operations import NO_INVOCATION
from perdure.gateway.console import calls, listing, objects, serve, shapes, timeline
from perdure.gateway.console.census import Census
from perdure.gateway.console.meter import Meter
from perdure.gateway.console.overview import Overview
from perdure.gateway.console.source import Source
from perdure.gateway.inspected import inspection_of
from perdure.journal import keys
from perdure.journal.ids import parse_invocation_id
from perdure.journal.inspecting import Newest
from perdure.journal.requests import Runtime
from perdure.journal.schema import ServiceType
from perdure.journal.state_version import state_version

PREFIX: Final = "/ui"
_API: Final = "api/"
_FULL_BYTES: Final = 1 << 20  # of one payload, when all of it is asked for
_PAGE: Final = 100

_Route: TypeAlias = Callable[..., Awaitable[web.Response]]


class _Text(msgspec.Struct, frozen=True):
    text: str | None = None
    base64: str | None = None

    def content(self) -> bytes:
        return (
            base64.b64decode(self.base64, validate=True)
            if self.base64
            else (self.text or "").encode()
        )


class _Change(msgspec.Struct, frozen=True):
    """``version``: of the state that the change was made from."""

    version: str
    set: dict[str, _Text] = {}
    delete: list[str] = []


_decode_change = msgspec.json.Decoder(_Change).decode


def is_ours(path: str) -> bool:
    """Whether a path (without its query) belongs to the console."""
    return path in ("/", PREFIX) or path.startswith(PREFIX + "/")


def is_public(path: str) -> bool:
    """The page itself, which asks for the token that its API wants, says nothing of anybody's data."""
    return is_ours(path) and not path.startswith(f"{PREFIX}/{_API}")


class Console:
    """``handle`` answers everything that ``is_ours``. Without an engine to look into, only the files."""

    def __init__(self, runtime: Runtime, size_limit_bytes: int, meter: Meter | None = None) -> None:
        self._runtime = runtime
        self._size_limit_bytes = size_limit_bytes
        inspection = inspection_of(runtime)
        self._source = None if inspection is None else Source(inspection)
        if inspection is not None:
            self._census = Census(inspection)
            self._overview = Overview(
                inspection, self._census, meter or Meter(), version("perdure")
            )

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Raises what the runtime raises."""
        path, _, query = request.raw_path.partition("?")
        if not path.startswith(PREFIX + "/"):
            location = f"{PREFIX}/?{query}" if query else f"{PREFIX}/"
            return web.Response(status=308, headers={**serve.HEADERS, hdrs.LOCATION: location})
        rest = path.removeprefix(PREFIX + "/")
        if not rest.startswith(_API):
            return serve.answer(request, rest)
        try:
            response = await self._call(request, rest.removeprefix(_API).split("/"))
        except objects.BadCursor as e:
            response = bad_query(str(e))
        response.headers.update(serve.HEADERS)
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        return response

    async def _call(self, request: web.BaseRequest, segments: list[str]) -> web.Response:
        if self._source is None:
            return error(501, "this server's engine cannot be looked into")
        names = [unquote(each) for each in segments]
        match request.method, *names:
            case "GET" | "HEAD", "overview":
                return json_answer(await self._overview.look())
            case "GET" | "HEAD", "invocations":
                return await self._invocations(request, self._source)
            case "GET" | "HEAD", "invocations", id:
                return await self._invocation(self._source, id)
            case "GET" | "HEAD", "invocations", id, "timeline":
                return await self._timeline(request, self._source, id)
            case "GET" | "HEAD", "invocations", id, "payload", index:
                return await self._payload(self._source, id, index)
            case "GET" | "HEAD", "objects":
                return await self._objects(request, self._source)
            case "GET" | "HEAD", "objects", service, key:
                return await self._object(self._source, service, key)
            case "PUT", "objects", service, key, "state":
                return await self._change(request, self._source, service, key)
            case "GET" | "HEAD", "timers":
                return await self._timers(request, self._source)
            case "POST", "invoke":
                return await self._invoke(request)
            case _:
                return error(404, "the console's API has no such route")

    # ---- invocations ----------------------------------------------------------------------------

    async def _invocations(self, request: web.BaseRequest, source: Source) -> web.Response:
        query = request.rel_url.query
        limit = _number(query.get("limit", "50"), listing.MOST)
        if not limit:
            return bad_query(f"'limit' must be a number from 1 to {listing.MOST}")
        cursor = query.get("cursor")
        wanted = listing.Wanted(
            query.get("service"),
            query.get("handler"),
            query.get("key"),
            query.get("status"),
            limit,
            None if cursor is None else objects.cursor_of(cursor, keys.INVOCATION),
        )
        count = await self._census.look()
        news = await source.inspection.inspect(Newest())
        page = await source.read(lambda store: listing.page(store, wanted, count, news.changed))
        shown: dict[str, Any] = {
            "rows": [shapes.row(id, record) for id, record in page.rows],
            "newest_first": page.newest_first,
            "is_whole": count.is_whole,
            "progress": self._census.progress,
        }
        if wanted.key is None and wanted.handler is None:
            shown["total"] = count.count(wanted.service, wanted.status)
        if page.cursor is not None:
            shown["cursor"] = page.cursor.hex()
        return json_answer(shown)

    async def _invocation(self, source: Source, id: str) -> web.Response:
        raw = parse_invocation_id(id)
        found = (await source.read(lambda store: listing.some(store, [raw]))).get(raw)
        if found is None:
            return error(404, NO_INVOCATION.format(id))
        shown = shapes.details(raw, found)
        info = await self._runtime.invocation(id)
        if info is not None and info.awaiting:
            shown["awaiting"] = info.awaiting
        return json_answer(shown)

    async def _timeline(self, request: web.BaseRequest, source: Source, id: str) -> web.Response:
        raw = parse_invocation_id(id)
        first = _number(request.rel_url.query.get("from", "0"), 1 << 32)
        if first is None:
            return bad_query("'from' must be the index of an entry")
        shown = await source.read(lambda store: timeline.timeline(store, raw, first))
        return json_answer(shown | {"now": time.time_ns() // 1_000_000})

    async def _payload(self, source: Source, id: str, index: str) -> web.Response:
        raw, number = parse_invocation_id(id), _number(index, 1 << 32)
        if number is None:
            return bad_query("an entry has a number")
        found = await source.read(
            lambda store: timeline.payload_of(store, raw, number, _FULL_BYTES)
        )
        return error(404, f"entry {number} has no payload") if found is None else json_answer(found)

    # ---- objects and timers ---------------------------------------------------------------------

    async def _objects(self, request: web.BaseRequest, source: Source) -> web.Response:
        query = request.rel_url.query
        service, cursor = query.get("service"), query.get("cursor")
        start = None if cursor is None else objects.cursor_of(cursor, keys.STATE)
        rows, then = await source.read(lambda store: objects.objects(store, service, start, _PAGE))
        return json_answer({"rows": rows, **_cursor(then)})

    async def _object(self, source: Source, service: str, key: str) -> web.Response:
        refused = self._refuse_stateless(service)
        if refused is not None:
            return refused
        return json_answer(await source.read(lambda store: objects.one(store, (service, key))))

    async def _change(
        self, request: web.BaseRequest, source: Source, service: str, key: str
    ) -> web.Response:
        """A change that was made from another version than there is now is refused with 409."""
        body = await json_body(request, self._size_limit_bytes)
        if isinstance(body, web.Response):
            return body
        try:
            change = _decode_change(body)
            values = {name: text.content() for name, text in change.set.items()}
        except (msgspec.ValidationError, binascii.Error) as e:
            return misshapen(e)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            return not_json(e)
        refused = self._refuse_stateless(service)
        if refused is not None:
            return refused
        state = await source.read(lambda store: objects.read_state(store, (service, key)))
        if state is None:
            return error(400, "this state has too many keys to be edited here")
        if state_version(state) != change.version:
            return error(
                409, f"the state of {service}/{key} changed meanwhile; nothing was written"
            )
        new = calls.merged(state, values, change.delete)
        await self._runtime.patch_state(service, key, new, change.version)
        return json_answer({"version": state_version(new)}, 202)

    def _refuse_stateless(self, name: str) -> web.Response | None:
        service = self._runtime.services().get(name)
        if service is None:
            return no_service(name)
        if service.type is ServiceType.SERVICE:
            return error(400, f"{name} is a plain service; it has no state")
        return None

    async def _timers(self, request: web.BaseRequest, source: Source) -> web.Response:
        cursor = request.rel_url.query.get("cursor")
        start = None if cursor is None else objects.cursor_of(cursor, keys.TIMER)
        rows, then = await source.read(lambda store: objects.timers(store, start, _PAGE))
        return json_answer({"rows": rows, **_cursor(then)})

    # ---- calls ----------------------------------------------------------------------------------

    async def _invoke(self, request: web.BaseRequest) -> web.Response:
        body = await json_body(request, self._size_limit_bytes)
        if isinstance(body, web.Response):
            return body
        try:
            asked = calls.decode(body)
        except msgspec.ValidationError as e:
            return misshapen(e)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            return not_json(e)
        return await calls.invoke(self._runtime, asked)


def _number(text: str, most: int) -> int | None:
    """None for what is no number up to ``most``."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    return int(text) if int(text) <= most else None


def _cursor(cursor: bytes | None) -> dict[str, str]:
    return {} if cursor is None else {"cursor": cursor.hex()}
