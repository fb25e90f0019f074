"""What can be asked of a partition beside calls and sends: shapes of arguments and answers.

``repeats``: asked again when the connection is lost before the answer came. Only what reads, what the
partition recognizes, and what does no more when done twice; everything else fails with Indeterminate.
"""

from typing import Any

import msgspec

from perdure.journal.entries import Entry, Outcome, SignalResult
from perdure.journal.requests import (
    Answer,
    At,
    Edits,
    Filter,
    Incompatible,
    InvocationInfo,
    Journaled,
    NotFound,
    NotReady,
    Op,
    OpResult,
    Output,
    Restarted,
    Which,
)
from perdure.journal.schedules_records import Schedule, Spec
from perdure.journal.schedules_requests import Stored
from perdure.journal.schema import Handler

_encode = msgspec.msgpack.Encoder().encode


class Method:
    """``name`` as in ``Runtime``; those of schedules have ``schedules.`` in front.

    ``is_brief``: not held for long while the partition is away.
    """

    def __init__(
        self, name: str, arguments: Any, answer: Any, repeats: bool, is_brief: bool = False
    ) -> None:
        self.name = name
        self.repeats = repeats
        self.is_brief = is_brief
        self.decode_arguments = msgspec.msgpack.Decoder(arguments).decode
        self.decode_answer = msgspec.msgpack.Decoder(answer).decode

    @staticmethod
    def encode(value: object) -> msgspec.Raw:
        return msgspec.Raw(_encode(value))


class End(msgspec.Struct, array_like=True, frozen=True):
    """``Answer | NotReady | NotFound``. The handler travels by its names."""

    invocation_id: str
    is_known: bool
    result: Outcome | None = None
    expires_at_ms: int | None = None
    handler: tuple[str, str] | None = None


class RestartEnd(msgspec.Struct, array_like=True, frozen=True):
    """``Restarted | OpResult | Incompatible``: exactly one is set."""

    invocation_id: str | None = None
    result: OpResult | None = None
    incompatible: Incompatible | None = None


_Choice = Which | At

METHODS = {
    each.name: each
    for each in (
        Method("attach", tuple[str], End, True),
        Method("output", tuple[str], End, True),
        Method("invocation", tuple[str], InvocationInfo | None, True),
        Method("invocations", tuple[Filter], list[InvocationInfo], True),
        Method("journal", tuple[str], list[Entry] | None, True),
        Method("journaled", tuple[str], list[Journaled] | None, True),
        Method("state", tuple[str, str], dict[str, bytes], True),
        Method("complete_awakeable", tuple[str, Outcome], None, True),  # the first one wins
        Method("signal", tuple[str, int | str, SignalResult], None, False),
        Method("operate", tuple[str, Op, _Choice], OpResult | Incompatible, False),
        Method("restart", tuple[str, int, _Choice, Edits], RestartEnd, False),
        Method("patch_state", tuple[str, str, dict[str, bytes], str | None], None, False),
        Method("schedules.put", tuple[Spec, bool], Stored, False),
        Method("schedules.find", tuple[str], Schedule | None, True),
        Method("schedules.list", tuple[()], list[Schedule], True),
        Method("schedules.pause", tuple[str, str], Schedule, False),
        Method("schedules.resume", tuple[str], Schedule, False),
        Method("schedules.trigger", tuple[str, int], str, True),  # at one moment it is one
        Method("schedules.backfill", tuple[str, int, int, bool, int], int, True),  # as above
        Method("schedules.delete", tuple[str], None, False),
        Method("inspect", tuple[bytes], bytes, True, is_brief=True),
        Method("control", tuple[bytes], bytes, False),  # it may be what ended the process
    )
}


def end_of(found: Output) -> End:
    if isinstance(found, Answer):
        handler = None if found.handler is None else (found.handler.service, found.handler.name)
        return End(found.invocation_id, True, found.result, found.expires_at_ms, handler)
    return End(found.invocation_id, isinstance(found, NotReady))


def output_of(end: End, handler: Handler | None) -> Output:
    """``handler``: that of ``end.handler``, as this process knows it."""
    if end.result is not None:
        return Answer(end.invocation_id, end.result, end.expires_at_ms, handler)
    return NotReady(end.invocation_id) if end.is_known else NotFound(end.invocation_id)


def restart_end_of(found: Restarted | OpResult | Incompatible) -> RestartEnd:
    if isinstance(found, Restarted):
        return RestartEnd(invocation_id=found.invocation_id)
    if isinstance(found, Incompatible):
        return RestartEnd(incompatible=found)
    return RestartEnd(result=found)


def restarted_of(end: RestartEnd) -> Restarted | OpResult | Incompatible:
    if end.invocation_id is not None:
        return Restarted(end.invocation_id)
    found = end.incompatible if end.result is None else end.result
    assert found is not None
    return found
