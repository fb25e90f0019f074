"""From the bytes of one attempt's request to what the handler's side is told: first a ``Start``, then
notifications and acks, as they come. Chunks may be cut anywhere.

Pure. Only the order of frames is checked here; their contents are read by ``journal.wire``.
Rules: service protocol 3.4, 3.6, 5.4, 6.
"""

import hashlib
from typing import Final, TypeAlias

import msgspec

from perdure.journal.attempt import Start
from perdure.journal.entries import Entry, Input, Notification, Verbatim
from perdure.journal.errors import ProtocolError
from perdure.journal.schema import Handler
from perdure.journal.wire.commands import is_command_type, read_command
from perdure.journal.wire.control import StartMessage, read_run_ack, read_start
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame, frame_name
from perdure.journal.wire.notifications import is_notification_type, read_notification

FRAME_LIMIT_BYTES: Final = 256 << 20  # above all that a server's own limits let through
_SEEDS_SINCE: Final = 6
_ACKS_SINCE: Final = 7


class RunAck(msgspec.Struct, frozen=True):
    """The proposed result of a run is durable."""

    completion_id: int


Arrival: TypeAlias = Start | Notification | RunAck


class StreamInput:
    """The request of one attempt at ``handler``, read so far. After a ProtocolError it is of no use."""

    def __init__(
        self, handler: Handler, version: int, limit_bytes: int = FRAME_LIMIT_BYTES
    ) -> None:
        self._handler = handler
        self._version = version
        self._reader = FrameReader(limit_bytes)
        self._message: StartMessage | None = None
        self._entries: list[Entry] = []
        self._missing_count = 0  # of the known entries
        self._is_live = False

    def feed(self, data: bytes) -> list[Arrival]:
        """What these bytes complete. Raises ProtocolError."""
        arrivals: list[Arrival] = []
        for raw in self._reader.feed(data):
            if self._is_live:
                arrivals.append(self._live(raw))
            elif self._message is None:
                self._message = self._start_message(raw)
                self._missing_count = self._message.known_entry_count
            else:
                self._entries.append(self._known(raw))
                self._missing_count -= 1
                if self._missing_count == 0:
                    self._is_live = True
                    arrivals.append(self._start(self._message))
        return arrivals

    def end(self) -> None:
        """The request is over. Raises ProtocolError where something is still missing."""
        if not self._reader.is_between_frames:
            raise ProtocolError("[RT0012] the request ended in the middle of a frame")
        if self._message is None:
            raise ProtocolError("[RT0012] the request ended before its Start message")
        if not self._is_live:
            raise ProtocolError(
                f"[RT0012] the request ended after {len(self._entries)} of the"
                f" {self._message.known_entry_count} known entries that its Start message announced"
            )

    # ---- by stage -------------------------------------------------------------------------------

    def _start_message(self, raw: RawFrame) -> StartMessage:
        if raw.type != FrameType.START:
            raise ProtocolError(
                f"[RT0012] expected a Start message first, found {frame_name(raw.type)}"
            )
        return read_start(raw)

    def _known(self, raw: RawFrame) -> Entry:
        if is_command_type(raw.type):
            command = read_command(raw)
            return command.command if type(command) is Verbatim else command
        if is_notification_type(raw.type):
            return read_notification(raw)
        raise ProtocolError(
            f"[RT0012] expected known entry {len(self._entries)}, a command or a notification,"
            f" found {frame_name(raw.type)}"
        )

    def _live(self, raw: RawFrame) -> Arrival:
        if is_notification_type(raw.type):
            return read_notification(raw)
        if raw.type == FrameType.PROPOSE_RUN_COMPLETION_ACK and self._version >= _ACKS_SINCE:
            return RunAck(read_run_ack(raw))
        raise ProtocolError(
            f"[RT0012] expected only notifications{' and acks' * (self._version >= _ACKS_SINCE)}"
            f" after the known entries, found {frame_name(raw.type)} (protocol version {self._version})"
        )

    def _start(self, message: StartMessage) -> Start:
        first = next((each for each in self._entries if not isinstance(each, Notification)), None)
        if type(first) is not Input:
            found = "no command" if first is None else type(first).__name__
            raise ProtocolError(f"[RT0012] expected an Input as the first command, found {found}")
        seed = message.random_seed or 0
        return Start(
            id=message.id,
            attempt=message.retry_count + 1,
            handler=self._handler,
            key=message.key,
            entries=tuple(self._entries),
            state=message.state,
            state_complete=not message.partial_state,
            random_seed=seed if self._version >= _SEEDS_SINCE else _seed_of(message.id),
            retry_count=message.retry_count,
            retry_duration_ms=message.retry_duration_ms,
            idempotency_key=message.idempotency_key,
            scope=message.scope,
            limit_key=message.limit_key,
            protocol_version=self._version,
        )


def _seed_of(id: bytes) -> int:
    """Version 5 sends no seed; what all attempts of an invocation share is its id."""
    return int.from_bytes(hashlib.sha256(id).digest()[:8], "big")
