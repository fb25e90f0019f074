"""What the tests of the transports share: a receiver that takes notes, and the official SDK's app."""

import asyncio

import restate

from perdure.actors.remote.port import Headers, HttpRequest, Stream, Transport, TransportFailed
from perdure.journal.entries import Command, Input, Verbatim
from perdure.journal.wire.commands import command_frame, is_command_type, read_command
from perdure.journal.wire.frames import FrameReader, FrameType

KIND = "application/vnd.restate.invocation.v6"
# Start of protocol 9.1: key "k", one known entry, state {"a": 1} (complete), seed 42.
START = bytes.fromhex(
    "00000000000000510a180102030405060708090a0b0c0d0e0f1011121314151617181226"
    "696e765f3130474a667930474750495a304a736d4932596869687768624c7a447468304a767a"
    "180122060a016112013132016b482a"
)
COUNTER = restate.VirtualObject("Counter")


@COUNTER.handler()
async def add(ctx: restate.ObjectContext, amount: int) -> int:
    total = (await ctx.get("a", type_hint=int) or 0) + amount
    ctx.set("a", total)
    return total


class Notes:
    """A receiver: what it heard, and futures for what a test waits for."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.parts: list[bytes] = []
        self.heard: list[str] = []
        self.writable_count = 0
        self.headed = asyncio.Event()
        self.changed = asyncio.Event()
        self.done: asyncio.Future[TransportFailed | None] = (
            asyncio.get_running_loop().create_future()
        )

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def on_head(self, status: int, headers: Headers) -> None:
        self.heard.append("head")
        self.status = status
        self.headers = headers
        self.headed.set()

    def on_data(self, data: bytes) -> None:
        self.heard.append("data")
        self.parts.append(data)
        self.changed.set()

    def on_end(self) -> None:
        self.heard.append("end")
        self.done.set_result(None)

    def on_failed(self, error: TransportFailed) -> None:
        self.heard.append("failed")
        self.done.set_result(error)

    def on_writable(self) -> None:
        self.writable_count += 1
        self.changed.set()

    async def failure(self) -> str:
        """What it failed with."""
        error = await asyncio.wait_for(self.done, 10)
        assert error is not None
        return str(error)

    async def end(self) -> None:
        """Waits for a complete response."""
        assert await asyncio.wait_for(self.done, 10) is None

    async def until_size(self, size_bytes: int) -> None:
        while len(self.body) < size_bytes:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


def post(path: str = "/", *headers: tuple[str, str]) -> HttpRequest:
    return HttpRequest("POST", path, headers)


async def pour(stream: Stream, notes: Notes, total_bytes: int) -> int:
    """Write so many bytes as fast as the stream takes them; the most that it held at once."""
    piece = b"x" * 32_768
    most = 0
    for _ in range(total_bytes // len(piece)):
        stream.write(piece)
        most = max(most, stream.buffered_bytes)
        while stream.buffered_bytes > 256 * 1024 and not notes.done.done():
            notes.changed.clear()
            await asyncio.wait_for(notes.changed.wait(), 10)
    return most


async def invoke_counter(transport: Transport) -> list[Command | Verbatim]:
    """A whole invocation of the official SDK's counter, as a runtime drives it; its commands."""
    notes = Notes()
    request = post("/invoke/Counter/add", ("content-type", KIND), ("accept", KIND))
    stream = transport.open(request, notes)
    stream.write(START)
    stream.write(command_frame(Input((), b"41")))
    reader = FrameReader(1 << 20)
    commands: list[Command | Verbatim] = []
    read = 0
    while True:
        await notes.until_size(read + 1)
        body = notes.body
        frames = reader.feed(body[read:])
        read = len(body)
        commands += [read_command(each) for each in frames if is_command_type(each.type)]
        if any(each.type == FrameType.END for each in frames):
            break
    assert not notes.done.done()  # the SDK holds the response open until the request ends
    stream.close_input()
    await notes.end()
    assert notes.status == 200
    assert dict(notes.headers)["content-type"] == KIND
    return commands


def left_tasks() -> set[asyncio.Task[object]]:
    """All tasks of this loop but the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}
