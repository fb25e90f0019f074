"""The admin API: health, version, services, operations on invocations, state. HTTP on its own port.

Translates to the ``Runtime`` protocol; decides nothing about an invocation. No CORS. Deployments are in
gateway/admin_deployments.py, operations on invocations in
gateway/admin_invocations.py. Later parts have their place beside this file: SQL (`/query`), the console.
Rules: admin.md 1-3, 5, 6; reliability S4, S13.
"""

import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from perdure.gateway import admin_routes as routes
from perdure.gateway.admin_answers import (
    bad_query,
    error,
    json_answer,
    json_body,
    misshapen,
    no_service,
    not_json,
    text,
)
from perdure.gateway.admin_deployments import DeploymentOperations
from perdure.gateway.admin_inspection import Inspection
from perdure.gateway.admin_invocations import InvocationOperations
from perdure.gateway.admin_models import (
    entry_json,
    handler_json,
    invocation_json,
    state_json,
    version_json,
)
from perdure.gateway.admin_operations import NO_INVOCATION
from perdure.gateway.console import api as console
from perdure.gateway.console.meter import Meter
from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.deployments import Registrar
from perdure.gateway.responses import refusal_of
from perdure.gateway.settings import Settings
from perdure.gateway.settings_sources import is_loopback, split_address
from perdure.journal.errors import BadId, PerdureError
from perdure.journal.requests import Filter, Runtime
from perdure.journal.schema import Service, ServiceType

log = logging.getLogger("perdure.gateway.admin")

_STATUSES: Final = (
    "scheduled", "pending", "running", "backing-off", "suspended", "paused", "completed"
)  # fmt: skip
_MOST_LISTED: Final = 10_000
_COMPRESS_FROM_BYTES: Final = 1024
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_Operation: TypeAlias = Callable[..., Awaitable[web.Response]]


class _Mutation(msgspec.Struct, frozen=True):
    object_key: str
    new_state: dict[str, list[int] | str]
    version: str | None = None


_decode_mutation = msgspec.json.Decoder(_Mutation).decode


class Admin:
    """One instance serves all connections; ``handle`` is what the server calls."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        ingress_url: str,
        registrar: Registrar | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._runtime = runtime
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
            "console": console.Console(runtime, settings.admin.request_size_limit_bytes, meter).handle,
            "version": self._version,
            "cluster_health": self._cluster_health,
            "services": self._services,
            "service": self._service,
            "handlers": self._handlers,
            "handler": self._handler,
            "state": self._state,
            "mutate_state": self._mutate_state,
            "invocations": self._invocations,
            "invocation": self._invocation,
            "journal": self._journal,
            **self._deployments.operations,
            **InvocationOperations(runtime, registrar, self._size_limit_bytes).operations,
            **Inspection(runtime).operations,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refused = self._check_caller(request)
        if refused is not None:
            return refused
        if self._has_console and console.is_ours(request.raw_path.partition("?")[0]):
            return _compressed(await self._perform("console", (), request))
        match routes.find(request.method, request.raw_path):
            case routes.Found(name=name, arguments=arguments):
                response = await self._perform(name, arguments, request)
            case routes.WrongMethod(allow=allow):
                return web.Response(status=405, headers={hdrs.ALLOW: allow})
            case routes.OldVersion(message=message):
                return text(400, message)
            case routes.Unknown():
                return web.Response(status=404)
        return _compressed(response)

    async def _perform(
        self, name: str, arguments: tuple[str, ...], request: web.BaseRequest
    ) -> web.Response:
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
        service = self._runtime.services().get(name)
        if service is None:
            return no_service(name)
        return json_answer({"handlers": [handler_json(each) for each in service.handlers.values()]})

    async def _handler(self, request: web.BaseRequest, name: str, handler: str) -> web.Response:
        service = self._runtime.services().get(name)
        found = service and service.handlers.get(handler)
        if not found:
            return error(
                404, f"The requested handler '{handler}' on service '{name}' does not exist"
            )
        return json_answer(handler_json(found))

    # ---- state ----------------------------------------------------------------------------------

    async def _state(self, request: web.BaseRequest, name: str, key: str) -> web.Response:
        service = self._runtime.services().get(name)
        if service is None:
            return no_service(name)
        if service.type is ServiceType.SERVICE:
            return error(400, "Cannot read state for service type Service")
        return json_answer(state_json(await self._runtime.state(name, key)))

    async def _mutate_state(self, request: web.BaseRequest, name: str) -> web.Response:
        body = await json_body(request, self._size_limit_bytes)
        if isinstance(body, web.Response):
            return body
        try:
            mutation = _decode_mutation(body)
            new_state = {k: _state_value(v) for k, v in mutation.new_state.items()}
        except msgspec.ValidationError as e:
            return misshapen(e)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            return not_json(e)
        service = self._runtime.services().get(name)
        refused = _refuse_mutation(service, name, new_state)
        if refused is not None:
            return refused
        if service is not None:
            await self._runtime.patch_state(name, mutation.object_key, new_state, mutation.version)
        return web.Response(status=202)

    # ---- invocations ----------------------------------------------------------------------------

    async def _invocations(self, request: web.BaseRequest) -> web.Response:
        query = request.rel_url.query
        limit = query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit) <= _MOST_LISTED):
            return bad_query(f"'limit' must be a number from 1 to {_MOST_LISTED}, not '{limit}'")
        status = query.get("status")
        if status is not None and status not in _STATUSES:
            return bad_query(f"'status' must be one of {', '.join(_STATUSES)}, not '{status}'")
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
        entries = await self._runtime.journal(invocation_id)
        if entries is None:
            return error(404, NO_INVOCATION.format(invocation_id))
        return json_answer({"entries": [entry_json(i, each) for i, each in enumerate(entries)]})


# ---- pure parts ----------------------------------------------------------------------------------


def _compressed(response: web.Response) -> web.Response:
    """For clients that take it; small bodies are left alone, and what is compressed already."""
    body = response.body
    if isinstance(body, bytes) and len(body) >= _COMPRESS_FROM_BYTES and not response.headers.get(
        hdrs.CONTENT_ENCODING
    ):
        response.headers[hdrs.VARY] = "accept-encoding"
        response.enable_compression()
    return response


def _state_value(value: list[int] | str) -> bytes:
    """Byte numbers, or a text that stands for its UTF-8. Raises ValidationError."""
    if isinstance(value, str):
        return value.encode()
    try:
        return bytes(value)
    except ValueError:
        raise msgspec.ValidationError("a state value must be a list of bytes, 0 to 255") from None


def _refuse_mutation(
    service: Service | None, name: str, new_state: dict[str, bytes]
) -> web.Response | None:
    if service is None:  # clearing what does not exist is harmless
        return no_service(name) if new_state else None
    if service.type is ServiceType.SERVICE:
        return error(400, "Cannot modify state for service type Service")
    return None


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit("//" + host).hostname or "").lower()
    except ValueError:
        return ""
