"""What is deployed, and where it runs: every revision of every service that some deployment still holds.

New invocations go to the newest revision; one that is pinned keeps its deployment. The empty deployment
id stands for the handlers in this process. What is registered how is the gateway's matter.
"""

from collections.abc import Iterable

import msgspec

from perdure.journal.schema import Handler, Service


class Place(msgspec.Struct, frozen=True):
    """Where an attempt runs. ``protocol_version`` 0 is this process, where nothing is encoded; there,
    ``deployment_id`` is that of a version of the code, or "".

    Not ``bidi``: the attempt hears nothing more after its start. ``may_run_ahead``: it may be told what is
    not durable yet, as its runs wait for that.
    """

    deployment_id: str
    handler: Handler
    protocol_version: int = 0
    bidi: bool = True
    may_run_ahead: bool = False


class Registry:
    """``services``: the newest revision of each, by name."""

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self.services: dict[str, Service] = {}
        self._revisions: dict[str, dict[str, Service]] = {}  # name -> deployment id -> service
        self._handlers: dict[tuple[str, str], Handler] = {}  # of the newest revisions
        self._homes: dict[str, str] = {}  # name -> deployment id of the newest revision
        for service in services:
            self.add(service, "")

    def add(self, service: Service, deployment_id: str) -> None:
        """A service of a deployment, new or changed."""
        self._revisions.setdefault(service.name, {})[deployment_id] = service
        self._choose(service.name)

    def remove(self, deployment_id: str, keep: Iterable[str] = ()) -> None:
        """Forget a deployment's services, except those named in ``keep``."""
        kept = set(keep)
        for name, revisions in list(self._revisions.items()):
            if deployment_id in revisions and name not in kept:
                del revisions[deployment_id]
                self._choose(name)

    def _choose(self, name: str) -> None:
        for key in [k for k in self._handlers if k[0] == name]:
            del self._handlers[key]
        revisions = self._revisions[name]
        if not revisions:
            del self._revisions[name], self.services[name], self._homes[name]
            return
        home = max(revisions, key=lambda each: revisions[each].revision)
        self._homes[name] = home
        newest = self.services[name] = revisions[home]
        for handler in newest.handlers.values():
            self._handlers[(name, handler.name)] = handler

    def handler(
        self, service: str, handler: str, deployment_id: str | None = None
    ) -> Handler | None:
        """As that deployment has it; without one, as the newest revision has it."""
        if deployment_id is None:
            return self._handlers.get((service, handler))
        found = self._revisions.get(service, {}).get(deployment_id)
        return None if found is None else found.handlers.get(handler)

    def home(self, service: str) -> str:
        """The deployment of the newest revision; "" where that is this process, or nobody."""
        return self._homes.get(service, "")

    def handler_names(self) -> list[str]:
        """As ``Service/handler``, for messages."""
        return [f"{service}/{handler}" for service, handler in self._handlers]
