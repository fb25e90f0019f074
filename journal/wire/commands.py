"""Commands: frame to entry and entry to frame, and which notifications answer a command.

Where the way back gives other bytes than those that came, the entry keeps both (``Verbatim``), so that
replay is exact. Rules: service protocol 3.5, 6.
"""

from perdure.journal.entries import Call, Command, OneWayCall, Verbatim
from perdure.journal.wire.command_messages import BUILDERS, READERS, TYPES
from perdure.journal.wire.frames import (
    FIRST_COMMAND,
    LAST_COMMAND,
    FrameType,
    RawFrame,
    frame,
)
from perdure.journal.wire.shared import refuse, unencodable

_TAGS = {type: str(entry.__struct_config__.tag) for entry, type in TYPES.items()}
_TYPES_BY_TAG = {tag: type for type, tag in _TAGS.items()}
_FROM_COMMAND_TO_COMPLETION = 0x7C00  # the command 0x0400+n is answered by 0x8000+n
_ID_COMPLETION = int(FrameType.CALL_INVOCATION_ID_COMPLETION)
_CALL_COMPLETION = int(FrameType.CALL_COMPLETION)
_ANSWERED = {
    int(each) - _FROM_COMMAND_TO_COMPLETION: int(each)
    for each in FrameType
    if 0x8000 <= each < FrameType.SIGNAL and each is not FrameType.CALL_INVOCATION_ID_COMPLETION
}


def is_command_type(type: int) -> bool:
    """By range; a type in it that no version knows is refused when it is read."""
    return FIRST_COMMAND <= type <= LAST_COMMAND


def tag_of_type(type: int) -> str:
    """The tag of the entry that a command's frame carries; "" for any other type."""
    return _TAGS.get(type, "")


def type_of_tag(tag: str) -> int | None:
    return _TYPES_BY_TAG.get(tag)


def read_command(raw: RawFrame) -> Command | Verbatim:
    """Raises ProtocolError. Flags are not looked at."""
    read = READERS.get(raw.type)
    if read is None:
        refuse(raw.type, "a command of protocol V5 to V7", "no version knows this type")
    command = read(raw)
    if BUILDERS[type(command)](command) == raw.payload:
        return command
    return Verbatim(command, raw.payload)


def command_frame(command: Command | Verbatim) -> bytes:
    """Raises ProtocolError where a field does not fit, such as a code that is negative."""
    if type(command) is Verbatim:
        return frame(TYPES[type(command.command)], command.wire)
    kind = type(command)
    try:
        return frame(TYPES[kind], BUILDERS[kind](command))
    except ValueError as e:
        raise unencodable(TYPES[kind], e) from e


def completion_types(command: Command) -> tuple[tuple[int, int], ...]:
    """The completions that answer ``command``: (completion id, type of the notification's frame)."""
    kind = type(command)
    if kind is Call:
        assert isinstance(command, Call)
        return (
            (command.id_completion_id, _ID_COMPLETION),
            (command.completion_id, _CALL_COMPLETION),
        )
    if kind is OneWayCall:
        assert isinstance(command, OneWayCall)
        return ((command.id_completion_id, _ID_COMPLETION),)
    answer = _ANSWERED.get(TYPES[kind])
    return () if answer is None else ((command.completion_id, answer),)  # type: ignore[union-attr]
