"""The admin API's routes about documents: its own, those of services; and the payload viewer's.

What a document says is made in gateway/openapi_admin.py and gateway/openapi_services.py.
"""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from aiohttp import web

from perdure.gateway import admin_routes
from perdure.gateway.admin_answers import error, json_answer, no_service
from perdure.gateway.openapi_admin import admin_openapi
from perdure.gateway.openapi_services import service_openapi
from perdure.journal.requests import Runtime

_Operation = Callable[..., Awaitable[web.Response]]


class OpenApiOperations:
    def __init__(self, runtime: Runtime, ingress_url: str) -> None:
        self._runtime = runtime
        self._ingress_url = ingress_url
        self._document: dict[str, Any] | None = None  # made when somebody asks
        self.operations: dict[str, _Operation] = {
            "openapi": self._admin,
            "service_openapi": self._service,
            "serde": self._serde,
        }

    async def _admin(self, request: web.BaseRequest) -> web.Response:
        if self._document is None:
            self._document = admin_openapi(admin_routes.ROUTES, version("perdure"))
        return json_answer(self._document)

    async def _service(self, request: web.BaseRequest, name: str) -> web.Response:
        service = self._runtime.services().get(name)
        if service is None:
            return no_service(name)
        return json_answer(service_openapi(service, self._ingress_url))

    async def _serde(self, request: web.BaseRequest, name: str, serde: str) -> web.Response:
        """No SDK for Python has an endpoint that decodes payloads, so that nobody can be asked.

        The official server tells that with 500.
        """
        if name not in self._runtime.services():
            return no_service(name)
        return error(404, f"the deployment of service '{name}' offers no serde '{serde}'")
