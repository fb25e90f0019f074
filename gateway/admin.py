"""The admin API: health, version, services, operations on invocations, state. HTTP on its own port.

Translates to the ``Runtime`` protocol; decides nothing about an invocation. No CORS. Deployments are in
gateway/admin_deployments.py, operations on invocations in
gateway/admin_invocations.py. Later parts have their place beside this file: SQL (`/query`), the console.
Rules: admin.md 1-3, 5, 6; reliability S4, S13.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from perdure.actors.describe import STATUS_WORDS
from perdure.actors.loop_lag import LoopLag
from perdure.gateway import admin_routes as routes
from perdure.gateway.admin_access import OPEN_OPERATIONS, Access
from perdure.gateway.admin_answers import (
    bad_query,
    error,
    json_answer,
    no_service,
    text,
)
from perdure.gateway.admin_code import CodeOperations
from perdure.gateway.admin_deployments import DeploymentOperations
from perdure.gateway.admin_flow import FlowOperations
from perdure.gateway.admin_inspection import Inspection
from perdure.gateway.admin_invocations import InvocationOperations
from perdure.gateway.admin_models import (
    entry_json,
    invocation_json,
    version_json,
)
from perdure.gateway.admin_openapi import OpenApiOperations
from perdure.gateway.admin_operations import NO_INVOCATION
from perdure.gateway.admin_schedules import ScheduleOperations
from perdure.gateway.admin_state import StateOperations
from perdure.gateway.console import api as console
from perdure.gateway.console.meter import Meter
from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.deployments import Registrar
from perdure.gateway.metrics import Metrics
from perdure.gateway.operator_book import OperatorBook
from perdure.gateway.responses import refusal_of
from perdure.gateway.settings import Settings
from perdure.gateway.settings_sources import is_loopback, split_address
from perdure.gateway.sql.endpoint import QueryEndpoint
from perdure.gateway.sql.workers import Workers
from perdure.gateway.versions import Versions
from perdure.journal.errors import BadId, PerdureError
from perdure.journal.requests import Filter, Runtime

log = logging.getLogger("perdure.gateway.admin")

_MOST_LISTED: Final = 10_000
_COMPRESS_FROM_BYTES: Final = 1024
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_Operation: TypeAlias = Callable[..., Awaitable[web.StreamResponse]]


class Admin:
    """One instance serves all connections; ``handle`` is what the server calls."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        ingress_url: str,
        registrar: Registrar | None = None,
        meter: Meter | None = None,
        book: OperatorBook | None = None,
        lag: LoopLag | None = None,
        queries: Workers | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._runtime = runtime
        self._access = Access(settings.admin)
        self._requests_limit = settings.admin.concurrent_requests_limit
        self._in_flight = 0
        self._deployments = DeploymentOperations(runtime, registrar, settings)
        self._has_console = settings.admin.console
        self._cluster_name = settings.deployments.cluster_name
        self._size_limit_bytes = settings.admin.request_size_limit_bytes
        self._version_answer = version_json(version("perdure"), ingress_url)
        bound = split_address(settings.admin.bind)[0]
        # On loopback every honest Host names this machine; on a network its names are not known.
        self._hosts = _LOOPBACK_NAMES | {bound.lower()} if is_loopback(bound) else None
        self.operations: dict[str, _Operation] = {
            "health": self._health,
            "console": console.Console(
                runtime, settings.admin.request_size_limit_bytes, meter
            ).handle,
            "version": self._version,
            "cluster_health": self._cluster_health,
            "services": self._services,
            "service": self._service,
            "handlers": self._handlers,
            "handler": self._handler,
            "invocations": self._invocations,
            "invocation": self._invocation,
            "journal": self._journal,
            **self._deployments.operations,
            **CodeOperations(versions, self._size_limit_bytes).operations,
            **InvocationOperations(runtime, registrar, self._size_limit_bytes).operations,
            **FlowOperations(
                runtime, book or OperatorBook(), self._size_limit_bytes, os.urandom
            ).operations,
            **OpenApiOperations(runtime, ingress_url).operations,
            **StateOperations(runtime, self._size_limit_bytes).operations,
            **Inspection(runtime).operations,
            **ScheduleOperations(runtime, self._size_limit_bytes).operations,
            **Metrics(runtime, meter, lag).operations,
            "query": QueryEndpoint(queries, self._size_limit_bytes).handle,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._in_flight >= self._requests_limit:
            response = error(429, f"{self._in_flight} requests are in flight; try again later")
            response.headers[hdrs.RETRY_AFTER] = "1"
            return response
        self._in_flight += 1
        try:
            return await self._handle(request)
        finally:
            self._in_flight -= 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refused = self._check_caller(request)
        if refused is not None:
            return refused
        path = request.raw_path.partition("?")[0]
        found = routes.find(request.method, request.raw_path)
        if not self._is_open(found, path):
            refused = self._access.refuse(request)
            if refused is not None:
                return refused
        if self._has_console and console.is_ours(path):
            return _compressed(await self._perform("console", (), request))
        match found:
            case routes.Found(name=name, arguments=arguments):
                response = await self._perform(name, arguments, request)
            case routes.WrongMethod(allow=allow):
                return web.Response(status=405, headers={hdrs.ALLOW: allow})
            case routes.OldVersion(message=message):
                return text(400, message)
            case routes.Unknown():
                return web.Response(status=404)
        return _compressed(response)

    def _is_open(self, found: object, path: str) -> bool:
        """Whether a stranger may ask: for health, and for the console's page, which has no data in it."""
        if isinstance(found, routes.Found) and found.name in OPEN_OPERATIONS:
            return True
        return self._has_console and console.is_public(path)

    async def _perform(
        self, name: str, arguments: tuple[str, ...], request: web.BaseRequest
    ) -> web.StreamResponse:
        try:
            return await self.operations[name](request, *arguments)
        except BadId as e:
            return error(400, f"The request field 'invocation_id' is invalid. Reason: {e}")
        except DeploymentRefused as e:
            return error(e.status, e.message, e.restate_code)
        except PerdureError as e:
            refusal = refusal_of(e)
            response = error(refusal.status, refusal.message)
            if refusal.retry_after_s is not None:
                response.headers[hdrs.RETRY_AFTER] = str(refusal.retry_after_s)
            return response
        except ConnectionError:
            log.debug("a client went away while its request was read")
            return error(400, "the request ended early")
        except Exception:
            log.exception("a request failed inside the admin API")
            return error(500, "internal error, the server's log has the details")

    def _check_caller(self, request: web.BaseRequest) -> web.Response | None:
        """No page of another site may reach this API through somebody's browser."""
        host = request.headers.get(hdrs.HOST, "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return error(
                421, f"'{host}' is not a name of this machine; use localhost, 127.0.0.1 or [::1]"
            )
        origin = request.headers.get(hdrs.ORIGIN)
        if request.method in _SAFE_METHODS or origin is None:
            return None
        if urlsplit(origin).netloc.lower() != host.lower():
            return error(403, f"requests from the origin '{origin}' may not change anything here")
        return None

    # ---- health, version ------------------------------------------------------------------------

    async def _health(self, request: web.BaseRequest) -> web.Response:
        return web.Response(status=200)

    async def _version(self, request: web.BaseRequest) -> web.Response:
        return json_answer(self._version_answer)

    async def _cluster_health(self, request: web.BaseRequest) -> web.Response:
        members = {"members": [1]}
        return json_answer({"cluster_name": self._cluster_name, "metadata_cluster_health": members})

    # ---- services -------------------------------------------------------------------------------

    async def _services(self, request: web.BaseRequest) -> web.Response:
        names = self._runtime.services()
        return json_answer({"services": [self._deployments.service_json(each) for each in names]})

    async def _service(self, request: web.BaseRequest, name: str) -> web.Response:
        shown = self._deployments.service_json(name)
        return no_service(name) if shown is None else json_answer(shown)

    async def _handlers(self, request: web.BaseRequest, name: str) -> web.Response:
        shown = self._deployments.service_json(name)
        return no_service(name) if shown is None else json_answer({"handlers": shown["handlers"]})

    async def _handler(self, request: web.BaseRequest, name: str, handler: str) -> web.Response:
        shown = self._deployments.service_json(name)
        for each in () if shown is None else cast(list[dict[str, object]], shown["handlers"]):
            if each["name"] == handler:
                return json_answer(each)
        return error(404, f"The requested handler '{handler}' on service '{name}' does not exist")

    # ---- invocations ----------------------------------------------------------------------------

    async def _invocations(self, request: web.BaseRequest) -> web.Response:
        query = request.rel_url.query
        limit = query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit) <= _MOST_LISTED):
            return bad_query(f"'limit' must be a number from 1 to {_MOST_LISTED}, not '{limit}'")
        status = query.get("status")
        if status is not None and status not in STATUS_WORDS:
            return bad_query(f"'status' must be one of {', '.join(STATUS_WORDS)}, not '{status}'")
        wanted = Filter(
            query.get("service"), query.get("handler"), query.get("key"), status, int(limit)
        )
        found = await self._runtime.invocations(wanted)
        return json_answer({"invocations": [invocation_json(each) for each in found]})

    async def _invocation(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        info = await self._runtime.invocation(invocation_id)
        return (
            error(404, NO_INVOCATION.format(invocation_id))
            if info is None
            else json_answer(invocation_json(info))
        )

    async def _journal(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        entries = await self._runtime.journaled(invocation_id)
        if entries is None:
            return error(404, NO_INVOCATION.format(invocation_id))
        shown = [entry_json(i, each.entry, each.at_ms) for i, each in enumerate(entries)]
        return json_answer({"entries": shown})


# ---- pure parts ----------------------------------------------------------------------------------


def _compressed(response: web.StreamResponse) -> web.StreamResponse:
    """For clients that take it; small bodies are left alone, and what is compressed already."""
    if not isinstance(response, web.Response):
        return response  # it is on its way
    body = response.body
    if (
        isinstance(body, bytes)
        and len(body) >= _COMPRESS_FROM_BYTES
        and not response.headers.get(hdrs.CONTENT_ENCODING)
    ):
        response.headers[hdrs.VARY] = "accept-encoding"
        response.enable_compression()
    return response


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit("//" + host).hostname or "").lower()
    except ValueError:
        return ""
