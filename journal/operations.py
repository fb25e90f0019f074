"""What operators do to one invocation: cancel, kill, pause, resume, purge, restart as new. Pure.

Each function moves one invocation within a turn and says what became of it; the moves themselves are in
journal/invocation.py. Rules: admin 6.
"""

from typing import assert_never

from msgspec.structs import replace

from perdure.journal import invocation
from perdure.journal.entries import Input
from perdure.journal.events import (
    AbortAttempt,
    Destination,
    Nowhere,
    Operate,
    Quarantine,
    Report,
    Restart,
)
from perdure.journal.ids import format_invocation_id
from perdure.journal.prefix import NoValue, take_prefix
from perdure.journal.records import (
    BackingOff,
    Completed,
    Inboxed,
    Invocation,
    Paused,
    Running,
    Scheduled,
    Suspended,
)
from perdure.journal.requests import Incompatible, Op, OpResult, Restarted
from perdure.journal.schema import HandlerType
from perdure.journal.turn import Turn

RESTART_AS_NEW = "restart_as_new"  # who invoked it


def operate(turn: Turn, event: Operate) -> OpResult | Incompatible:
    """One operation on one invocation (admin 6)."""
    id, op = event.id, event.op
    record = turn.invocation(id)
    if record is None or record.is_forgotten:
        return OpResult.NOT_FOUND
    status = record.status
    if type(status) is Completed:
        if op is Op.PURGE:
            invocation.purge(turn, id, record)
            return OpResult.DONE
        if op is Op.PURGE_JOURNAL:
            invocation.forget_journal(turn, id)
            return OpResult.DONE
        return OpResult.COMPLETED
    match op:
        case Op.CANCEL:
            invocation.cancel(turn, id, record)
            began = type(status) not in (Scheduled, Inboxed)
            return OpResult.ACCEPTED if began else OpResult.DONE
        case Op.KILL:
            invocation.kill(turn, id)
            return OpResult.DONE
        case Op.PAUSE:
            return _pause(turn, id, record)
        case Op.RESUME:
            return _resume(turn, id, record, event.destination)
        case Op.PURGE | Op.PURGE_JOURNAL:
            return OpResult.NOT_COMPLETED
        case _:
            assert_never(op)


def _pause(turn: Turn, id: bytes, record: Invocation) -> OpResult:
    match record.status:
        case Scheduled() | Inboxed():
            return OpResult.NOT_RUNNING
        case Paused():
            return OpResult.DONE
        case Suspended():
            invocation.pause(turn, id, record, "by an operator")
            return OpResult.DONE
        case _:
            turn.acts.append(AbortAttempt(id))
            invocation.pause(turn, id, record, "by an operator")
            return OpResult.ACCEPTED


def _resume(
    turn: Turn, id: bytes, record: Invocation, destination: Destination | Nowhere | None
) -> OpResult | Incompatible:
    moves = destination is not None
    match record.status:
        case Scheduled() | Inboxed():
            return OpResult.NOT_STARTED
        case Running():
            return OpResult.DEPLOYMENT_FIXED if moves else OpResult.DONE
        case BackingOff() if moves:
            return OpResult.DEPLOYMENT_FIXED
        case _:
            moved = _moved(record, destination)
            if not isinstance(moved, Invocation):
                return moved
            invocation.resume(turn, id, moved)
            return OpResult.DONE


def quarantine(turn: Turn, event: Quarantine) -> None:
    """Pause what fails by our fault, so that it does not fail for ever."""
    record = turn.invocation(event.id)
    if record is not None and type(record.status) is Running:
        turn.acts.append(AbortAttempt(event.id))
        invocation.pause(turn, event.id, record, event.reason)
        text = f"quarantined: {event.reason}"
        turn.acts.append(Report("error", event.id, text, record.target, record.attempt))


# ---- somewhere else, and again -------------------------------------------------------------------


def _moved(
    record: Invocation, destination: Destination | Nowhere | None
) -> Invocation | OpResult | Incompatible:
    """The record with its next attempt at the destination, or why it can't be there."""
    if destination is None:
        return record
    if isinstance(destination, Nowhere):
        return OpResult.NO_DEPLOYMENT
    if destination.is_latest and not record.pinned:
        return record  # it goes there anyway, wherever that is by then
    if not destination.newest:  # in this process, where no protocol is spoken
        return replace(record, deployment_id=destination.deployment_id, protocol_version=0)
    version = record.protocol_version or destination.version
    if not destination.oldest <= version <= destination.newest:
        return Incompatible(
            version, destination.deployment_id, destination.oldest, destination.newest
        )
    return replace(record, deployment_id=destination.deployment_id, protocol_version=version)


def restart(turn: Turn, event: Restart) -> Restarted | OpResult | Incompatible:
    """Accept a new invocation that begins with a prefix of an old one's journal (admin 6.2).

    Nothing of the prefix happens again: its commands are only replayed. What they changed then is as it
    is now. In front of more than the input the handler's random numbers are those of the old one, since
    the prefix was made with them.
    """
    old = turn.invocation(event.id)
    refused = _refuse_restart(old)
    if refused is not None or old is None:
        return refused or OpResult.NOT_FOUND
    entries = turn.entries_from(event.id, 0)
    if not entries:
        return OpResult.NO_INPUT
    if isinstance(event.destination, Nowhere):
        return OpResult.NO_DEPLOYMENT
    try:
        taken = take_prefix(entries, event.from_index, event.edits)
    except NoValue:
        return OpResult.BAD_EDIT
    # an input alone has the same form in every version, so any deployment may have it
    begins_anew = event.from_index == 0
    kept = replace(old, deployment_id="", protocol_version=0, command_count=1)
    moved = _moved(kept if begins_anew else old, event.destination)
    if not isinstance(moved, Invocation):
        return moved
    if taken is None:
        return OpResult.BAD_PREFIX
    first, *others = taken
    assert type(first) is Input, "entry 0 of a journal is its Input"
    record = invocation.new(
        turn,
        event.destination.handler,
        old.key,
        seed=event.seed if begins_anew else old.seed,
        invoked_by=RESTART_AS_NEW,
        trace=old.trace,
    )
    lineage = replace(
        record,
        deployment_id=moved.deployment_id,
        protocol_version=moved.protocol_version,
        restarted_from=event.id,
    )
    invocation.begin(turn, event.new_id, lineage, first)
    for entry in others:
        turn.append(event.new_id, entry)
    return Restarted(format_invocation_id(event.new_id))


def _refuse_restart(old: Invocation | None) -> OpResult | None:
    if old is None or old.is_forgotten:
        return OpResult.NOT_FOUND
    match old.status:
        case Scheduled() | Inboxed():
            return OpResult.NOT_STARTED
        case Completed():
            run = old.type is HandlerType.WORKFLOW
            return OpResult.UNSUPPORTED if run else None
        case _:
            return OpResult.NOT_COMPLETED
