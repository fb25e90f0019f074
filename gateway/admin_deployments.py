"""The admin API's operations on deployments, and the one that changes a service.

Bodies to what the registry takes, its answers to status and JSON. Rules: admin 2, 4 and 5.3.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from perdure.gateway import deployment_models as models
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
from perdure.gateway.admin_models import service_json
from perdure.gateway.admin_routes import is_v2
from perdure.gateway.deployment_errors import coded
from perdure.gateway.deployment_ids import id_fault
from perdure.gateway.deployment_requests import Outcome
from perdure.gateway.deployment_uri import UnreadableUri
from perdure.gateway.deployments import Registrar
from perdure.gateway.registry_file import ServicePatch
from perdure.gateway.settings import Settings
from perdure.journal.requests import Runtime

_Operation = Callable[..., Awaitable[web.Response]]
_BOOLEANS: Final = {"true": True, "false": False}

_decode_registration = msgspec.json.Decoder(models.RegisterBody).decode
_decode_update = msgspec.json.Decoder(models.UpdateBody).decode
_decode_patch = msgspec.json.Decoder(models.PatchBody).decode

T = TypeVar("T")


class DeploymentOperations:
    """``registrar`` None: a runtime without a registry, where nothing can be registered."""

    def __init__(self, runtime: Runtime, registrar: Registrar | None, settings: Settings) -> None:
        self._runtime = runtime
        self._registrar = registrar
        self._defaults = settings.defaults()
        self._size_limit_bytes = settings.admin.request_size_limit_bytes
        self.operations: dict[str, _Operation] = {
            "register": self._register,
            "deployments": self._deployments,
            "deployment": self._deployment,
            "update_deployment": self._update,
            "replace_deployment": self._replace,
            "delete_deployment": self._delete,
            "patch_service": self._patch_service,
        }

    def service_json(self, name: str) -> dict[str, object] | None:
        """The latest revision of a service, as operators see it."""
        service = self._runtime.services().get(name)
        if service is None:
            return None
        if self._registrar is None:
            return service_json(service, self._defaults)
        shown, infos = self._registrar.shown(service)
        return service_json(shown, self._defaults, infos)

    async def _register(self, request: web.BaseRequest) -> web.Response:
        registrar = self._registrar
        body = await self._body(request, _decode_registration)
        if isinstance(body, web.Response):
            return body
        v2 = is_v2(request.raw_path)
        try:
            wanted = models.registration(body, force_by_default=v2)
            if registrar is None:
                return _no_registry()
            outcome, record = await registrar.register(wanted)
        except (UnreadableUri, ValueError) as e:
            return misshapen(e)
        if outcome is Outcome.UNCHANGED and v2:
            message = f"a deployment with this address exists: '{record.id}'"
            raise coded(409, "META0004", message)
        services = registrar.services_of(record)
        status = 201 if outcome is Outcome.NEW or (v2 and wanted.force) else 200
        response = json_answer(models.registered_json(record, services, self._defaults), status)
        response.headers[hdrs.LOCATION] = f"deployments/{record.id}"
        return response

    async def _deployments(self, request: web.BaseRequest) -> web.Response:
        if self._registrar is None:
            return json_answer({"deployments": []})
        statuses = await self._registrar.statuses()
        shown = [
            models.deployment_json(each, models.names_json(each), statuses[each.id])
            for each in self._registrar.records()
        ]
        return json_answer({"deployments": shown})

    async def _deployment(self, request: web.BaseRequest, deployment_id: str) -> web.Response:
        return _bad_id(deployment_id) or await self._detailed(deployment_id)

    async def _detailed(self, deployment_id: str) -> web.Response:
        if self._registrar is None:
            return error(404, f"The requested deployment '{deployment_id}' does not exist")
        statuses = await self._registrar.statuses()
        record = self._registrar.get(deployment_id)
        services = self._registrar.services_of(record)
        status = statuses.get(deployment_id, "active")
        return json_answer(models.detailed_json(record, services, status, self._defaults))

    async def _update(self, request: web.BaseRequest, deployment_id: str) -> web.Response:
        return await self._change(request, deployment_id, overwrite=False)

    async def _replace(self, request: web.BaseRequest, deployment_id: str) -> web.Response:
        if not is_v2(request.raw_path):
            return error(405, "PUT deployment is deprecated, use PATCH instead")
        return await self._change(request, deployment_id, overwrite=True)

    async def _change(
        self, request: web.BaseRequest, deployment_id: str, overwrite: bool
    ) -> web.Response:
        refused = _bad_id(deployment_id)
        if refused is not None:
            return refused
        body = await self._body(request, _decode_update)
        if isinstance(body, web.Response):
            return body
        if self._registrar is None:
            return _no_registry()
        try:
            record = await self._registrar.update(deployment_id, models.update(body, overwrite))
        except UnreadableUri as e:
            return misshapen(e)
        statuses = await self._registrar.statuses()
        services = self._registrar.services_of(record)
        status = statuses.get(deployment_id, "active")
        return json_answer(models.detailed_json(record, services, status, self._defaults))

    async def _delete(self, request: web.BaseRequest, deployment_id: str) -> web.Response:
        refused = _bad_id(deployment_id)
        if refused is not None:
            return refused
        given = request.rel_url.query.get("force", "false")
        force = _BOOLEANS.get(given)
        if force is None:
            return bad_query(f"force: provided string was not `true` or `false`: '{given}'")
        if not force:
            return web.Response(status=501)
        if self._registrar is None:
            return _no_registry()
        await self._registrar.remove(deployment_id)
        return web.Response(status=202)

    async def _patch_service(self, request: web.BaseRequest, name: str) -> web.Response:
        body = await self._body(request, _decode_patch)
        if isinstance(body, web.Response):
            return body
        try:
            patch = models.patch(body)
        except ValueError as e:
            return misshapen(e)
        if patch != ServicePatch():
            if self._registrar is None:
                return _no_registry()
            await self._registrar.patch_service(name, patch)
        shown = self.service_json(name)
        return no_service(name) if shown is None else json_answer(shown)

    async def _body(
        self, request: web.BaseRequest, decode: Callable[[bytes], T]
    ) -> T | web.Response:
        """The body, or the answer that refuses it."""
        body: Any = await json_body(request, self._size_limit_bytes)
        if isinstance(body, web.Response):
            return body
        try:
            return decode(body)
        except msgspec.ValidationError as e:
            return misshapen(e)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            return not_json(e)


def _no_registry() -> web.Response:
    return error(501, "this server has no deployment registry")


def _bad_id(given: str) -> web.Response | None:
    """The answer to what can't be the id of a deployment."""
    reason = id_fault(given)
    if not reason:
        return None
    shown = "".join(c if c.isprintable() else "?" for c in given)
    return text(400, f"Invalid URL: Cannot parse `{shown}` to a `DeploymentId`: {reason}")
