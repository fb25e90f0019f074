"""Whatever bytes come: one last frame, a response that ends, and nothing that is left running.

FUZZ_EXAMPLES in the environment sets how many requests are made up.
"""

import asyncio
import os
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import perdure
from perdure.asgi import Serving
from perdure.endpoint import Endpoint
from perdure.journal.entries import (
    Completion,
    Input,
    Run,
    SetState,
    Signal,
    Sleep,
    Value,
    Void,
)
from perdure.journal.wire.commands import command_frame, is_command_type, read_command
from perdure.journal.wire.control import read_control, run_ack_frame, start_frame
from perdure.journal.wire.frames import FrameReader, FrameType, frame
from perdure.journal.wire.notifications import notification_frame
from tests.sdk.endpoint.peer import LIMIT_S, Peer, start_of

LAST = (FrameType.END, FrameType.ERROR, FrameType.SUSPENSION)
INPUT = Input((("a", "b"),), b"1")

thing = perdure.VirtualObject("O")


@thing.handler()
async def everything(ctx: perdure.ObjectContext, n: int) -> Any:
    ctx.set("n", n)
    ran = await ctx.run_typed("run", lambda: n)
    await ctx.sleep(timedelta(seconds=1))
    return [ran, await ctx.get("m"), await ctx.signal("s")]


def _start(count: int) -> bytes:
    entries = [INPUT] * count
    return start_frame(start_of(thing, "everything", entries, state={"m": b"2"}), 7)


def _done(completion_id: int, type: FrameType, result: Any) -> bytes:
    return notification_frame(Completion(completion_id, result), type, 7)


PIECES = st.one_of(
    st.sampled_from(
        [
            _start(1),
            _start(3),
            command_frame(INPUT),
            command_frame(SetState("n", b"1")),
            command_frame(Run(1, "run")),
            command_frame(Sleep(2, 5)),
            _done(1, FrameType.RUN_COMPLETION, Value(b"1")),
            _done(2, FrameType.SLEEP_COMPLETION, Void()),
            _done(3, FrameType.GET_LAZY_STATE_COMPLETION, Void()),
            notification_frame(Signal("s", Value(b"1")), 0, 7),
            notification_frame(Signal(1, Void()), 0, 7),
            run_ack_frame(1),
            run_ack_frame(2),
            frame(FrameType.END, b""),
        ]
    ),
    st.builds(frame, st.integers(0, 0xFFFF), st.binary(max_size=20)),
    st.binary(max_size=12),
)
GOOD_BEGINNING = st.sampled_from([b"", _start(1) + command_frame(INPUT)])


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")), deadline=None)
@given(beginning=GOOD_BEGINNING, pieces=st.lists(PIECES, max_size=8), cut=st.integers(1, 40))
def test_any_request_gets_a_response_with_one_last_frame(
    beginning: bytes, pieces: list[bytes], cut: int
) -> None:
    data = beginning + b"".join(pieces)

    async def scenario() -> bytes:
        serving = Serving(Endpoint().bind(thing))
        peer = Peer(serving, "/invoke/O/everything").open()
        for at in range(0, len(data), cut):
            peer.write(data[at : at + cut])
            await asyncio.sleep(0)
        peer.end()
        await peer.done()
        assert peer.is_over
        for _ in range(LIMIT_S):
            await asyncio.sleep(0)
        assert serving.running_count == 0
        serving.close()
        return peer.body

    frames = FrameReader(1 << 20).feed(asyncio.run(scenario()))
    assert [each.type in LAST for each in frames] == [False] * (len(frames) - 1) + [True]
    for each in frames:
        if is_command_type(each.type):
            read_command(each)
        else:
            read_control(each, 7)
