"""Which id a request's invocation gets: the one that was given, the one that its key decides, or a new one.

Pure: time and chance come in. Rule: service protocol 4.2.
"""

from collections.abc import Callable

from perdure.journal import ids
from perdure.journal.requests import Invoke
from perdure.journal.schema import HandlerType


def draw_id(
    invoke: Invoke, now_ms: int, random_bytes: Callable[[int], bytes]
) -> tuple[bytes, bool]:
    """The raw id, and whether it is random, so that no invocation can have it yet. Raises BadId."""
    handler, key, name = invoke.handler, invoke.key, invoke.idempotency_key
    if invoke.id is not None:
        return invoke.id, invoke.is_new
    if handler.type is HandlerType.WORKFLOW:
        return ids.workflow_id(handler.service, key or "", invoke.scope), False
    if name is not None:
        return ids.idempotent_id(handler.service, key, handler.name, name, invoke.scope), False
    return ids.fresh_id(handler.service, key, now_ms, random_bytes(12), invoke.scope), True
