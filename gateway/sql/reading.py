"""What query workers ask of the server: durable rows of the store, read beside the loop, and live facts.

Nothing is shown that a crash could still take back: a query begins when all that was decided before it is
on disk. It holds no lock and no snapshot, so a long one sees each table as it is when it comes to it.
"""

import asyncio
import time
from typing import Any, Final, assert_never

from perdure.actors.engine import Engine
from perdure.actors.partition import Partition
from perdure.gateway.deployments import Registrar
from perdure.gateway.operator_book import OperatorBook
from perdure.gateway.sql.awaiting_json import awaiting_json
from perdure.gateway.sql.messages import Fetch, Live, Question, Rows, Scan
from perdure.gateway.sql.source import DELAYED_STARTS, OPEN_ATTEMPTS, Facts
from perdure.journal.errors import StoreFailed
from perdure.journal.schema import Service, ServiceType
from perdure.journal.store import Store

_TYPES: Final = {
    ServiceType.SERVICE: "service",
    ServiceType.VIRTUAL_OBJECT: "virtual_object",
    ServiceType.WORKFLOW: "workflow",
}


class Reading:
    """One for a server; ``registrar`` and ``book`` where there are any. Used on the engine's loop."""

    def __init__(
        self, engine: Engine, registrar: Registrar | None, book: OperatorBook | None
    ) -> None:
        self._engine = engine
        self._registrar = registrar
        self._book = book
        self._live = {
            "sys_service": self._services,
            "sys_deployment": self._deployments,
            "sys_rules": self._rules,
            OPEN_ATTEMPTS: self._open_attempts,
            DELAYED_STARTS: self._delayed_starts,
        }

    async def begin(self) -> None:
        """Until all that was decided is durable. Raises StoreFailed."""
        await self._engine.drain()

    async def answer(self, question: Question) -> Rows:
        """Raises StoreError."""
        match question:
            case Scan():
                return await asyncio.to_thread(_scan, self._engine.store, question)
            case Fetch():
                return await asyncio.to_thread(_fetch, self._engine.store, question)
            case Live(table=table):
                rows = self._live.get(table)
                return Rows(live=[] if rows is None else rows())
            case _:
                assert_never(question)

    # ---- live ------------------------------------------------------------------------------------

    def _services(self) -> Facts:
        return [self._service(each) for _, each in sorted(self._engine.services().items())]

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

    def _deployments(self) -> Facts:
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

    def _rules(self) -> Facts:
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

    def _open_attempts(self) -> Facts:
        partition = self._partition()
        at_zero_s = time.time() - asyncio.get_running_loop().time()  # the loop's clock is another
        return [
            {
                "id": each.id,
                "attempt": each.attempt,
                "started_at_ms": int((at_zero_s + each.started_at_s) * 1000),
                "awaiting": None if each.awaiting is None else awaiting_json(each.awaiting),
            }
            for each in partition.attempts.all()
        ]

    def _delayed_starts(self) -> Facts:
        return [{"id": id} for id in self._partition().delayed_ids()]

    def _partition(self) -> Partition:
        partition = self._engine.partition
        if partition is None:
            raise StoreFailed(self._engine.health())
        return partition


def _scan(store: Store, wanted: Scan) -> Rows:
    rows = store.scan(wanted.start, wanted.stop, wanted.limit)
    return Rows([(key, b"") for key, _ in rows] if wanted.keys_only else rows)


def _fetch(store: Store, wanted: Fetch) -> Rows:
    found = ((key, store.get(key)) for key in wanted.keys)
    return Rows([(key, value) for key, value in found if value is not None])
