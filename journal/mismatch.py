"""Explains a journal mismatch in the terms of the handler's author: what, where, why, what to do.

Built only when a mismatch has happened, so nothing here needs to be fast. It reads the stack of the
interpreter for file and line; no other I/O. Rule: service protocol 6.
"""

import sys
from types import FrameType
from typing import Final

from perdure.journal.entries import Command, Output, Record, Run, type_name
from perdure.journal.errors import JournalMismatch
from perdure.journal.schema import Handler

_MOST_SHOWN: Final = 120  # characters of one field's value
_IDS: Final = frozenset({"completion_id", "id_completion_id"})
_OURS: Final = ("perdure.", "asyncio.", "concurrent.", "threading.", "contextlib.")
_REMEDY: Final = (
    "What to do: let handlers decide only by their input, state, and what their context returns;"
    " wrap anything else (time, chance, files, the network) in ctx.run."
    " If the handler's code was changed, let invocations in flight finish with the old code,"
    " or kill them."
)


def diverged(
    handler: Handler, index: int, recorded: Command, issued: Command, where: str | None = None
) -> JournalMismatch:
    """The handler issued another command than the recorded one."""
    fields = differing(recorded, issued)
    return JournalMismatch(
        "\n".join(
            (
                _head(handler, index, where or locate()),
                f"  recorded: {describe(recorded, fields)}",
                f"  issued:   {describe(issued, fields)}",
                f"Likely cause: {_cause(recorded, issued, fields)}",
                _REMEDY,
            )
        )
    )


def ended_early(handler: Handler, index: int, recorded: Command, where: str) -> JournalMismatch:
    """The handler returned or raised although recorded commands are left."""
    return JournalMismatch(
        "\n".join(
            (
                _head(handler, index, where),
                f"  recorded: {describe(recorded)}",
                "  issued:   nothing, the handler ended",
                "Likely cause: the handler took another path than before, or an await that the"
                " record went past was removed from its code.",
                _REMEDY,
            )
        )
    )


def stuck(
    handler: Handler, index: int, recorded: Command, awaited: str, where: str
) -> JournalMismatch:
    """The handler awaits what the record does not hold, although the record goes on."""
    return JournalMismatch(
        "\n".join(
            (
                _head(handler, index, where),
                f"  recorded: {describe(recorded)}",
                f"  issued:   nothing, the handler waits for {awaited}",
                "Likely cause: an await was added or moved, or the handler waits for another"
                " operation than it did before.",
                _REMEDY,
            )
        )
    )


def differing(recorded: Command, issued: Command) -> list[str]:
    """Names of the fields that differ; empty where the types do."""
    if type(recorded) is not type(issued):
        return []
    return [
        each
        for each in recorded.__struct_fields__
        if getattr(recorded, each) != getattr(issued, each)
    ]


def label(command: Command) -> str:
    """What the author calls the command: its name, key, or target; may be empty."""
    if command_name := getattr(command, "name", ""):
        return repr(command_name)
    if service := getattr(command, "service", ""):
        return f"{service}/{getattr(command, 'handler', '')}"
    key = getattr(command, "key", "")
    return repr(key) if key else ""


def describe(command: Command, fields: list[str] | None = None) -> str:
    """Type, label, and the given fields (all but ids where none are given)."""
    shown = fields or [each for each in command.__struct_fields__ if each not in _IDS]
    values = []
    for each in shown:
        value = getattr(command, each)
        if fields or value not in ("", (), None):
            values.append(f"{each}={_show(value)}")
    return " ".join(filter(None, (type_name(command), label(command), ", ".join(values))))


def locate(frame: FrameType | None = None) -> str:
    """``file:line`` of the innermost frame that is neither ours nor the interpreter's machinery.

    ``frame``: where to begin; the caller's own where it is None.
    """
    if frame is None:
        frame = sys._getframe(1)
    while frame is not None:
        if is_foreign(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown place"


def locate_raised(error: BaseException) -> str:
    """``file:line`` of the innermost frame of somebody else's code that ``error`` came through."""
    place, trace = "unknown place", error.__traceback__
    while trace is not None:
        if is_foreign(trace.tb_frame):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def is_foreign(frame: FrameType) -> bool:
    """Whether a frame is neither ours nor the interpreter's machinery."""
    return not f"{frame.f_globals.get('__name__', '')}.".startswith(_OURS)


def _head(handler: Handler, index: int, where: str) -> str:
    return (
        f"journal mismatch at command {index} of {handler.service}/{handler.name} ({where}):"
        " replay expected the recorded command and found another."
    )


def _show(value: object) -> str:
    if type(value) is bytes:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = repr(value)
    elif isinstance(value, Record):
        inner = (_show(getattr(value, each)) for each in value.__struct_fields__)
        text = f"{value.__struct_config__.tag}({', '.join(inner)})"
    else:
        text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def _cause(recorded: Command, issued: Command, fields: list[str]) -> str:
    if not fields:
        return (
            "the order of operations changed: the code before this line was edited, or a branch"
            " or loop depends on the time, on chance, or on data that was read outside ctx.run."
        )
    if type(issued) is Output:
        return (
            "the handler returned another result than before, so the result depends on something"
            " that is not recorded."
        )
    if fields == ["name"] and type(issued) is Run:
        return "another run came at this place: it was renamed, added, removed or reordered."
    if {"key", "service", "handler", "name", "target_id"} & set(fields):
        return (
            "the operation is of the same kind but addresses something else: it was edited, or"
            " its target comes from something that is not recorded, such as the order of a set."
        )
    if set(fields) <= _IDS:
        return "an operation before this one was added, removed or reordered."
    return (
        f"{', '.join(fields)} was computed from something that is not recorded, such as"
        " datetime.now(), random or uuid4(): use ctx.time(), ctx.random() or ctx.uuid()."
    )
