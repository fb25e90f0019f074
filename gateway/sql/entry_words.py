"""What SQL calls the entries of a journal, and what only the entries around one tell of it. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from perdure.journal.entries import (
    Command,
    Completion,
    Entry,
    InvocationId,
    Notification,
    Signal,
    plain,
    type_name,
)
from perdure.journal.wire.commands import completion_types
from perdure.journal.wire.frames import FrameType

_UNKNOWN_TYPE: Final = 0


class Named(msgspec.Struct):
    """One entry. ``word``: such as `SetState`; a completion has the word of what it completes.

    ``wire_type``: of a completion's frame. ``callee``: of a call, where its id has come.
    """

    index: int
    entry: Command | Notification
    stored: Entry
    word: str
    wire_type: int = _UNKNOWN_TYPE
    callee: str | None = None

    @property
    def entry_type(self) -> str:
        is_note = isinstance(self.entry, Completion | Signal)
        return f"{'Notification' if is_note else 'Command'}: {self.word}"


def camel(snake: str) -> str:
    return "".join(part.title() for part in snake.split("_"))


def _word_of(frame_type: int) -> str:
    return camel(FrameType(frame_type).name.lower().removesuffix("_completion"))


def name_all(journal: Sequence[Entry]) -> Iterator[Named]:
    """All entries of one journal, in order."""
    types: dict[int, int] = {}  # by completion id
    ids = {
        each.completion_id: each.result.id
        for each in journal
        if isinstance(each, Completion) and isinstance(each.result, InvocationId)
    }
    for index, stored in enumerate(journal):
        entry = plain(stored)
        if isinstance(entry, Completion):
            type = types.get(entry.completion_id, _UNKNOWN_TYPE)
            word = _word_of(type) if type else "Unknown"
            yield Named(index, entry, stored, word, type)
        elif isinstance(entry, Signal):
            yield Named(index, entry, stored, "Signal")
        else:
            types.update(completion_types(entry))
            callee = ids.get(getattr(entry, "id_completion_id", 0))
            yield Named(index, entry, stored, camel(type_name(entry)), callee=callee)
