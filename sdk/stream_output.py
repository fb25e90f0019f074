"""What the handler's side says, as bytes of a protocol version; and what a version cannot say.

Pure. Rules: service protocol 0.3 (what came when), 3.4, 3.5; codes 5.9.
"""

from typing import Final

from perdure.journal.attempt import (
    AwaitingOn,
    Barrier,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Suspended,
)
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    Call,
    Failure,
    GetInvocationOutput,
    OneWayCall,
)
from perdure.journal.errors import PerdureError
from perdure.journal.wire.commands import command_frame
from perdure.journal.wire.control import control_frame

_METADATA_SINCE: Final = 6
_SCOPES_SINCE: Final = 7
_AWAITING_SINCE: Final = 7


class UnsupportedFeature(PerdureError):
    """The negotiated version cannot say this; a newer server can."""

    code = 573


def frame_bytes(frame: Frame, version: int) -> bytes:
    """Empty for what has no place on the wire. Raises UnsupportedFeature, and ValueError, TypeError or
    OverflowError for what no version can hold."""
    kind = type(frame)
    if kind is Barrier or (kind is AwaitingOn and version < _AWAITING_SINCE):
        return b""
    if version < _SCOPES_SINCE:
        check(frame, version)
    if isinstance(frame, ProposeRun | AwaitingOn | Ended | Suspended | Failed):
        return control_frame(frame, version)
    assert not isinstance(frame, Barrier)
    return command_frame(frame)


def check(frame: Frame, version: int) -> None:
    """Raises UnsupportedFeature for what came after ``version``, which is below the newest."""
    if isinstance(frame, Call | OneWayCall):
        if frame.scope is not None or frame.limit_key is not None:
            raise _unsupported("a call with a scope or limit key", _SCOPES_SINCE, version)
    elif isinstance(frame, AttachInvocation | GetInvocationOutput):
        if not isinstance(frame.target, ById) and frame.target.scope is not None:
            raise _unsupported("a target with a scope", _SCOPES_SINCE, version)
    elif version < _METADATA_SINCE:
        result = getattr(frame, "result", None)
        if type(result) is Failure and result.metadata:
            raise _unsupported("a failure with metadata", _METADATA_SINCE, version)


def _unsupported(what: str, since: int, version: int) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{what} needs version {since} of the service protocol, and version {version} was negotiated:"
        " use a newer server, or do without"
    )
