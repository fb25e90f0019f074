"""The part of a journal that another invocation begins with: which entries, and which values are edited.

Pure; knows nothing of records or tables. Rules: admin 6.2.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from perdure.journal.entries import (
    Completion,
    Entry,
    GetEagerState,
    Input,
    Output,
    Signal,
    Value,
    is_command,
    plain,
)

_COMPLETION_IDS = ("id_completion_id", "completion_id")  # fields of commands


class NoValue(Exception):
    """An edit names an entry that is not taken over, or that holds no value."""


def take_prefix(
    entries: list[Entry], from_index: int, edits: tuple[tuple[int, bytes], ...] = ()
) -> list[Entry] | None:
    """The entries up to ``from_index``, then the completions of their commands that came later.

    None where there are not that many, or a command has no completion. Raises NoValue.
    """
    if not 0 <= from_index < len(entries):
        return None
    taken = dict(enumerate(entries[: from_index + 1]))
    missing = _awaited(taken.values()) - _completed(taken.values())
    for index, entry in enumerate(entries[from_index + 1 :], from_index + 1):
        if type(entry) is Completion and entry.completion_id in missing:
            missing.remove(entry.completion_id)
            taken[index] = entry
    if missing:
        return None
    for index, value in edits:
        if index not in taken:
            raise NoValue(index)
        taken[index] = _edited(taken[index], value)
    return list(taken.values())


def _awaited(entries: Iterable[Entry]) -> set[int]:
    return {
        getattr(command, field)
        for command in (plain(entry) for entry in entries if is_command(entry))
        for field in _COMPLETION_IDS
        if hasattr(command, field)
    }


def _completed(entries: Iterable[Entry]) -> set[int]:
    return {entry.completion_id for entry in entries if type(entry) is Completion}


def _edited(entry: Entry, value: bytes) -> Entry:
    """With ``value`` as what was given, read, or answered."""
    match entry:
        case Input() | GetEagerState():
            return replace(entry, value=value)
        case Completion():  # one that was a failure becomes a value, too
            return replace(entry, result=Value(value))
        case Signal():
            return replace(entry, result=Value(value))
        case Output():
            return replace(entry, result=Value(value))
        case _:
            raise NoValue(entry)
