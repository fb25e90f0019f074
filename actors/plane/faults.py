"""Errors as data: the class by its name, its text, one number. Raised again as what they were.

Only classes of the table travel; a child of one travels as its nearest parent that does. A bug travels as
PerdureError, with its place in the log of the process where it happened.
"""

import logging

from perdure.actors.plane.connection import FrameTooLarge
from perdure.actors.plane.messages import Fault
from perdure.journal import errors
from perdure.journal.errors import Overloaded, PerdureError
from perdure.journal.schedules_requests import ScheduleRefused
from perdure.journal.schedules_times import BadTiming

log = logging.getLogger("perdure.plane")

_PLAIN: dict[str, type[PerdureError]] = {
    each.__name__: each
    for each in (
        PerdureError,
        errors.JournalMismatch,
        errors.ProtocolError,
        errors.BadId,
        errors.StoreError,
        errors.StoreBusy,
        errors.StoreDamaged,
        errors.StoreFormat,
        errors.StoreFailed,
        errors.Fenced,
        errors.AppendBusy,
        errors.Unavailable,
        errors.Indeterminate,
        errors.EntryTooLarge,
        errors.MessageGap,
        BadTiming,
        FrameTooLarge,
    )
}


def fault(number: int, error: BaseException) -> Fault:
    """What tells the other side of ``error``."""
    if isinstance(error, Overloaded):
        return Fault(number, "Overloaded", error.message, error.retry_after_s)
    if isinstance(error, ScheduleRefused):
        return Fault(number, "ScheduleRefused", error.message, error.code)
    if isinstance(error, PerdureError):
        kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in _PLAIN)
        return Fault(number, kind, str(error))
    log.error("a request failed: %r", error, exc_info=error)
    return Fault(number, "PerdureError", f"the partition failed: {error!r}; its log says more")


def raised(fault: Fault) -> PerdureError:
    """The error that ``fault`` tells of."""
    if fault.kind == "Overloaded":
        return Overloaded(fault.message, fault.detail)
    if fault.kind == "ScheduleRefused":
        return ScheduleRefused(fault.detail, fault.message)
    return _PLAIN.get(fault.kind, PerdureError)(fault.message)
