"""What is deployed here, and where it runs. The place of the registry of remote deployments, too."""

from collections.abc import Iterable

from perdure.journal.schema import Handler, Service


class Registry:
    """The latest revision of every service."""

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self.services: dict[str, Service] = {}
        self._handlers: dict[tuple[str, str], Handler] = {}
        for service in services:
            self.add(service)

    def add(self, service: Service) -> None:
        """A new service, or a new revision of one."""
        self.services[service.name] = service
        for key in [k for k in self._handlers if k[0] == service.name]:
            del self._handlers[key]
        for name, handler in service.handlers.items():
            self._handlers[(service.name, name)] = handler

    def handler(self, service: str, handler: str) -> Handler | None:
        return self._handlers.get((service, handler))

    def handler_names(self) -> list[str]:
        """As ``Service/handler``, for messages."""
        return [f"{service}/{handler}" for service, handler in self._handlers]
