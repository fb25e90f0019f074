"""One attempt at a deployment: the attempt port on one side, one exchange of frames on the other.

Replay goes out first, then notifications as they become durable; what comes back is told in bursts. It
decides nothing about the invocation. Rules: service protocol 2.2, 2.4, 5.7, 5.8.
"""

import asyncio
from collections import deque
from typing import cast

from perdure.actors.remote.failures import MOST_TEXT, broken, refusal, within_reason
from perdure.actors.remote.port import Headers, HttpRequest, Stream, Transport, TransportFailed
from perdure.journal.attempt import (
    Barrier,
    Ended,
    Failed,
    Frame,
    ProposeRun,
    Sink,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    Command,
    Completion,
    Entry,
    Input,
    Notification,
    Run,
    Signal,
    plain,
    type_name,
)
from perdure.journal.errors import ProtocolError
from perdure.journal.wire.commands import (
    command_frame,
    completion_types,
    is_command_type,
    read_command,
)
from perdure.journal.wire.control import read_control, run_ack_frame, start_frame
from perdure.journal.wire.frames import (
    REQUESTED_ACK,
    FrameReader,
    FrameTooLarge,
    FrameType,
    RawFrame,
)
from perdure.journal.wire.notifications import notification_frame
from perdure.journal.wire.versions import content_type

_CHUNK_BYTES = 256 << 10  # of replay that is encoded ahead of what the peer takes
_SLOW_PEER_BYTES = 8 << 20  # of notifications that wait; then it is asked to suspend
_SLOW_PEER_COUNT = 10_000  # and of those that wait behind a replay
_BURST_BYTES, _BURST_COUNT = 8 << 20, 1_000  # of frames that are told at once
_DRAIN_S = 5.0  # for the end of a response after its last frame
_ERROR_TEXT_BYTES = 2048
_SIGNAL = 0  # what notification_frame is given as the type of a signal: it knows better
_ACKS_SINCE = 7


class StreamAttempt:
    """Implements ``Attempt`` and ``Receiver``. Not ``bidi``: the request ends with the replay."""

    def __init__(
        self,
        start: Start,
        sink: Sink,
        transport: Transport,
        *,
        path: str,
        headers: Headers,
        bidi: bool,
        limit_bytes: int,
    ) -> None:
        self._sink = sink
        self._version = start.protocol_version
        self._reader = FrameReader(limit_bytes)
        self._types: dict[int, int] = {}  # completion id -> frame type of its notification
        self._runs: set[int] = set()  # those without a result
        self._acked: set[int] = set()  # runs that were proposed on this stream
        self._gates_runs = transport.gates_runs
        self._barriers: set[int] = set()  # runs whose closures wait until all before is durable
        self._replay = deque(start.entries)
        self._replay_count = len(start.entries)
        self._waiting: list[tuple[int, Notification]] = []  # live, behind the replay
        self._written_count = 0  # a prefix of the journal, in entries
        self._closing = not bidi
        self._input_open = True
        self._over = False  # nothing that still comes counts
        self._refused: tuple[Failed, bytearray] | None = None  # an error status and its text
        self._draining: asyncio.TimerHandle | None = None
        self._stream: Stream = transport.open(HttpRequest("POST", path, headers), self)
        self._stream.write(start_frame(start, self._version))
        self._pump()

    # ---- what the runtime says ------------------------------------------------------------------

    def deliver(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        """Pass notifications on, in order. What can't be passed any more is news for the next attempt."""
        if self._over or not self._input_open:
            return
        if self._replay:
            return self._wait(entries)
        try:
            self._write(entries)
        except ProtocolError as error:
            self._break_off(error)

    def pass_barrier(self, completion_id: int) -> None:
        self._barriers.discard(completion_id)
        if not self._barriers:
            self._stream.open_gate()

    def close_input(self) -> None:
        self._closing = True
        self._pump()

    def abort(self) -> None:
        self._over = True
        self._stop_draining()
        self._stream.abort()

    # ---- the request ----------------------------------------------------------------------------

    def _wait(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        """Keep what comes behind the replay; a peer that does not read so much is asked to suspend."""
        if self._closing:
            return
        self._waiting += entries
        if len(self._waiting) > _SLOW_PEER_COUNT:
            self._waiting.clear()
            self._closing = True

    def _pump(self) -> None:
        """Write as much of the replay as the stream takes now, then what waits behind it."""
        if self._over or not self._input_open:
            return
        try:
            self._write_on()
        except ProtocolError as error:
            self._break_off(error)

    def _break_off(self, error: ProtocolError) -> None:
        """What is to be written can't be; the attempt fails in a later turn of the loop."""
        self._replay.clear()
        self._waiting.clear()
        self._input_open = False
        asyncio.get_running_loop().call_soon(self._fail, str(error))

    def _write_on(self) -> None:
        while self._replay:
            if self._stream.buffered_bytes >= _CHUNK_BYTES:
                return  # until on_writable
            chunk = bytearray()
            while self._replay and len(chunk) < _CHUNK_BYTES:
                chunk += self._encode(self._replay.popleft())
                self._written_count += 1
            self._stream.write(bytes(chunk))
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._write(tuple(waiting))
        if self._closing:
            self._end_input()

    def _encode(self, entry: Entry) -> bytes:
        if isinstance(entry, Completion):
            self._runs.discard(entry.completion_id)
            return notification_frame(entry, self._types[entry.completion_id], self._version)
        if isinstance(entry, Signal):
            return notification_frame(entry, _SIGNAL, self._version)
        command = plain(entry)
        self._types.update(completion_types(command))
        if type(command) is Run:
            self._runs.add(command.completion_id)
        return command_frame(entry)

    def _write(self, entries: tuple[tuple[int, Notification], ...]) -> None:
        if self._stream.buffered_bytes > _SLOW_PEER_BYTES:
            return self._end_input()
        chunk = bytearray()
        for index, notification in entries:
            if type(notification) is Completion and notification.completion_id in self._acked:
                chunk += run_ack_frame(notification.completion_id)
            else:
                chunk += self._encode(notification)
            self._written_count = index + 1
        self._stream.write(bytes(chunk))
        return None

    def _end_input(self) -> None:
        if self._input_open:
            self._input_open = False
            self._stream.close_input()

    # ---- the response ---------------------------------------------------------------------------

    def on_writable(self) -> None:
        self._pump()

    def on_head(self, status: int, headers: Headers) -> None:
        if self._over:
            return
        if 200 <= status <= 299:
            expected = content_type(self._version)
            found = next((value for name, value in headers if name == "content-type"), "none")
            if found != expected:
                self._fail(
                    f"[RT0012] the deployment answered with content-type {found}, not {expected}; is "
                    "something else at this address?"
                )
            return
        self._refused = (refusal(status, headers, self._sink.now_ms()), bytearray())
        self._end_input()  # many servers read the whole request before they answer
        self._drain()

    def on_data(self, data: bytes) -> None:
        if self._over:
            return
        if self._refused is not None:
            text = self._refused[1]
            text += data[: _ERROR_TEXT_BYTES - len(text)]
            return
        too_large: FrameTooLarge | None = None
        try:
            raw_frames = self._reader.feed(data)
        except FrameTooLarge as error:
            raw_frames, too_large = error.frames, error
        frames: list[Frame] = []
        size_bytes = 0
        try:
            for raw in raw_frames:
                if size_bytes >= _BURST_BYTES or len(frames) == _BURST_COUNT:
                    self._sink.emit(tuple(frames))
                    frames, size_bytes = [], 0
                frame = self._read(raw)
                frames.append(frame)
                if raw.type == FrameType.RUN and self._gates_runs:
                    frames.append(self._barrier(frame))
                size_bytes += len(raw.payload)
                if type(frame) in (Ended, Suspended, Failed):
                    return self._finish(frames)
            if too_large is not None:
                raise too_large
        except ProtocolError as error:
            frames.append(broken(error))
            return self._finish(frames, abort=True)
        if frames:
            self._sink.emit(tuple(frames))
        if self._gates_runs and not self._barriers:
            self._stream.open_gate()
        if frames and not self._over and not self._sink.ready(self._go_on):
            self._stream.pause()

    def on_end(self) -> None:
        self._stop_draining()
        if self._refused is not None:
            return self._tell_refusal()
        where = "" if self._reader.is_between_frames else ", in the middle of a frame"
        self._fail(
            f"[RT0010] the deployment ended its response before the attempt was over{where}; expected "
            "an end, a suspension or an error"
        )

    def on_failed(self, error: TransportFailed) -> None:
        self._stop_draining()
        if self._refused is not None:
            return self._tell_refusal()
        self._fail(f"[RT0010] {error}")

    def _go_on(self) -> None:
        if not self._over:
            self._stream.resume()

    def _read(self, raw: RawFrame) -> Frame:
        if is_command_type(raw.type):
            entry = read_command(raw)
            command = plain(entry)
            if type(command) is Input:
                raise ProtocolError("[RT0012] an Input command came from the deployment")
            self._expect(command)
            return entry
        frame = read_control(raw, self._version)
        if type(frame) is ProposeRun:
            self._propose(frame.completion_id, raw.flags)
        elif type(frame) is Suspended:
            return Suspended(frame.awaiting, self._seen_count())
        elif type(frame) is Failed:
            return within_reason(frame)
        return frame

    def _barrier(self, frame: Frame) -> Barrier:
        run = plain(cast(Command, frame))
        assert type(run) is Run
        self._barriers.add(run.completion_id)
        return Barrier(run.completion_id)

    def _expect(self, command: Command) -> None:
        """Remember what answers a new command. Raises ProtocolError for an id that is taken."""
        for id, kind in completion_types(command):
            if id in self._types:
                raise ProtocolError(
                    f"[RT0012] {type_name(command)}: expected a new completion id, but completion id "
                    f"{id} came twice"
                )
            self._types[id] = kind
        if type(command) is Run:
            self._runs.add(command.completion_id)

    def _propose(self, completion_id: int, flags: int) -> None:
        """Raises ProtocolError for anything but the first result of a run of this journal."""
        if completion_id not in self._runs:
            raise ProtocolError(
                "[RT0012] propose_run_completion: expected the completion id of a run that waits for "
                f"its result, but {completion_id} is none"
            )
        self._runs.remove(completion_id)
        if self._version >= _ACKS_SINCE and flags & REQUESTED_ACK:
            self._acked.add(completion_id)

    def _seen_count(self) -> int:
        """How much of the journal the peer surely knew when it suspended (protocol 5.8).

        Once its input has ended it has read all; before, what was sent live may still be on its way.
        """
        if self._input_open:
            return min(self._written_count, self._replay_count)
        return self._written_count

    # ---- the end --------------------------------------------------------------------------------

    def _finish(self, frames: list[Frame], abort: bool = False) -> None:
        """The last frame is there. The peer ends its response once the request has ended."""
        self._over = True
        if abort:
            self._stream.abort()
        else:
            self._end_input()
            self._drain()
        self._sink.emit(tuple(frames))

    def _fail(self, message: str) -> None:
        if not self._over:
            self._finish([Failed(500, message[:MOST_TEXT])], abort=True)

    def _tell_refusal(self) -> None:
        if self._over or self._refused is None:
            return
        failed, text = self._refused
        detail = text.decode(errors="replace").strip()
        if detail:
            failed = Failed(
                failed.code,
                f"{failed.message}: {detail}",
                next_retry_delay_ms=failed.next_retry_delay_ms,
                counts=failed.counts,
            )
        self._finish([failed], abort=True)

    def _drain(self) -> None:
        """Give the peer some time to end its response; then reset."""
        self._draining = asyncio.get_running_loop().call_later(_DRAIN_S, self._drained)

    def _stop_draining(self) -> None:
        if self._draining is not None:
            self._draining.cancel()

    def _drained(self) -> None:
        if self._refused is not None:
            self._tell_refusal()
        else:
            self._stream.abort()
