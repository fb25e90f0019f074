"""Which attempt a log line belongs to: invocation id, target, attempt number and trace for log records.

``perdure.logging`` drops lines of replays; here lines get their fields. A record that is made outside
of any handler gets empty ones, so that a format string may always name them.
"""

import logging
from collections.abc import Callable

from perdure.current import operating_for
from perdure.journal.attempt import Start
from perdure.journal.records import target_text
from perdure.journal.trace import trace_id

FIELDS = ("invocation_id", "target", "attempt", "trace_id")

logger = logging.getLogger("perdure")


class InvocationFields(logging.Filter):
    """Adds ``invocation_id``, ``target``, ``attempt``, ``trace_id`` where they are not given; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        given = {
            name: value for name in FIELDS if (value := getattr(record, name, None)) is not None
        }
        add_fields(record)
        record.__dict__.update(given)
        return True


def add_fields(record: logging.LogRecord) -> None:
    owner = operating_for.get()
    if owner is None:
        record.invocation_id, record.target, record.attempt, record.trace_id = "", "", 0, ""
        return
    start = owner.start
    record.invocation_id = start.invocation_id
    record.target = target_of(start)
    record.attempt = start.attempt
    record.trace_id = trace_id(start.trace) if start.trace else ""


def target_of(start: Start) -> str:
    handler = start.handler
    return target_text(handler.service, start.key if handler.keyed else None, handler.name)


def record_factory(
    inner: Callable[..., logging.LogRecord],
) -> Callable[..., logging.LogRecord]:
    """A record factory that also adds the fields; for ``logging.setLogRecordFactory``."""

    def make(*args: object, **kwargs: object) -> logging.LogRecord:
        record = inner(*args, **kwargs)
        add_fields(record)
        return record

    return make
