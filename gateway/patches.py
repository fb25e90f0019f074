"""An operator's changes of a service's options, on top of what its deployment says. Pure.

Rules: admin 5.3. How options become effective is `journal/effective.py`.
"""

from typing import Any

from msgspec.structs import replace

from perdure.gateway.registry_file import ServicePatch
from perdure.journal.effective import DURATIONS
from perdure.journal.schema import Handler, HandlerType, Service


def patched(service: Service, patch: ServicePatch | None) -> Service:
    """``service`` with other options; they are not effective yet."""
    if patch is None:
        return service
    changes: dict[str, Any] = {
        name: value for name in DURATIONS if (value := getattr(patch, name)) is not None
    }
    if patch.public is not None:
        changes["ingress_private"] = not patch.public
    handlers = {name: _handler(handler, patch) for name, handler in service.handlers.items()}
    return replace(service, options=replace(service.options, **changes), handlers=handlers)


def _handler(handler: Handler, patch: ServicePatch) -> Handler:
    """The retention of a workflow's run is an option of that one handler."""
    if patch.workflow_retention_ms is None or handler.type is not HandlerType.WORKFLOW:
        return handler
    options = replace(handler.options, workflow_retention_ms=patch.workflow_retention_ms)
    return replace(handler, options=options)
