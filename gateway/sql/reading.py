"""What query workers ask of the server: durable rows of all partitions, and live facts.

Nothing is shown that a crash could still take back: a query begins when all that was decided before it is
on disk. It holds no lock and no snapshot, so a long one sees each table as it is when it comes to it. A query
that needs rows of a partition that is down fails; one that does not is answered.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, assert_never

from perdure.gateway.deployments import Registrar
from perdure.gateway.operator_book import OperatorBook
from perdure.gateway.sql import messages
from perdure.gateway.sql.awaiting_json import awaiting_json
from perdure.gateway.sql.messages import Live, Question, Rows
from perdure.gateway.sql.source import DELAYED_STARTS, OPEN_ATTEMPTS, Facts
from perdure.journal.inspecting import Fetch, Flush, Inspection, LiveAttempts, Look, Scan
from perdure.journal.placement import Placement, slot_range
from perdure.journal.requests import Runtime
from perdure.journal.schema import Service, ServiceType

_TYPES: Final = {
    ServiceType.SERVICE: "service",
    ServiceType.VIRTUAL_OBJECT: "virtual_object",
    ServiceType.WORKFLOW: "workflow",
}


_SLOT_SHIFT: Final = 48  # of a partition key, whose upper bits are the slot


class Reading:
    """One for a server; ``registrar`` and ``book`` where there are any. Used on the server's loop."""

    def __init__(
        self,
        inspection: Inspection,
        runtime: Runtime,
        registrar: Registrar | None,
        book: OperatorBook | None,
    ) -> None:
        self._inspection = inspection
        self._runtime = runtime
        self._registrar = registrar
        self._book = book
        self._live: dict[str, Callable[[], Awaitable[Facts]]] = {
            "sys_service": self._services,
            "sys_deployment": self._deployments,
            "sys_rules": self._rules,
            "partitions": self._partitions,
            OPEN_ATTEMPTS: self._open_attempts,
            DELAYED_STARTS: self._delayed_starts,
        }

    async def begin(self) -> None:
        """Until all that was decided is durable. Raises StoreFailed."""
        await self._inspection.inspect(Flush())

    async def answer(self, question: Question) -> Rows:
        """Raises StoreError."""
        match question:
            case messages.Scan(start=start, stop=stop, limit=limit, keys_only=keys_only):
                part = await self._inspection.inspect(Scan(start, stop, limit, keys_only))
                return Rows(part.rows, then=part.then)
            case messages.Fetch(keys=keys):
                part = await self._inspection.inspect(Fetch(keys))
                return Rows(part.rows, then=part.then)
            case Live(table=table):
                rows = self._live.get(table)
                return Rows(live=[] if rows is None else await rows())
            case _:
                assert_never(question)

    # ---- live ------------------------------------------------------------------------------------

    async def _services(self) -> Facts:
        return [self._service(each) for _, each in sorted(self._runtime.services().items())]

    def _service(self, service: Service) -> dict[str, Any]:
        if self._registrar is not None:
            service, _ = self._registrar.shown(service)
        return {
            "name": service.name,
            "revision": service.revision,
            "public": not service.options.ingress_private,
            "ty": _TYPES[service.type],
            "deployment_id": service.deployment_id or None,
        }

    async def _deployments(self) -> Facts:
        records = [] if self._registrar is None else self._registrar.records()
        return [
            {
                "id": each.id,
                "ty": "http",
                "endpoint": each.uri,
                "created_at": each.created_at_ms,
                "min_service_protocol_version": each.oldest,
                "max_service_protocol_version": each.newest,
                "services": [service.name for service in each.services],
                "sdk_version": each.sdk_version,
            }
            for each in records
        ]

    async def _rules(self) -> Facts:
        rules = () if self._book is None else self._book.book.rules
        return [
            {
                "pattern": each.pattern,
                "concurrency": each.concurrency,
                "description": each.description,
                "disabled": each.disabled,
                "version": each.version,
                "last_modified": each.modified_at_ms,
            }
            for each in rules
        ]

    async def _open_attempts(self) -> Facts:
        found = await self._inspection.inspect(LiveAttempts())
        return [
            {
                "id": each.id,
                "attempt": each.attempt,
                "started_at_ms": each.started_at_ms,
                "awaiting": None if each.awaiting is None else awaiting_json(each.awaiting),
            }
            for each in found.open
        ]

    async def _delayed_starts(self) -> Facts:
        return [{"id": id} for id in (await self._inspection.inspect(LiveAttempts())).delayed]

    async def _partitions(self) -> Facts:
        looks = (await self._inspection.inspect(Look())).partitions
        return [
            {
                "partition_id": each.placement.index,
                "start_key": _keys_of(each.placement)[0],
                "end_key": _keys_of(each.placement)[1],
                "state": "down" if each.reason else "up",
                "reason": each.reason or None,
                "epoch": each.epoch,
                "position": each.position,
                "size_bytes": each.size_bytes,
                "open_attempts": each.open_attempts,
            }
            for each in looks
        ]


def _keys_of(placement: Placement) -> tuple[int, int]:
    """The first and the last partition key of a partition."""
    first, behind = slot_range(placement.index, placement.count)
    return first << _SLOT_SHIFT, (behind << _SLOT_SHIFT) - 1
