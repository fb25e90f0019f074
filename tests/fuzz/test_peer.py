"""Whatever a peer does, the engine goes on: nothing breaks, leaks or is stuck, no journal has a gap.

A peer plays random scripts: commands that make sense and such that do not, real frames with bytes changed,
cut into any chunks, ended at any moment in any way. What must hold afterwards is in ``stage.Play``; here
also: every key takes a healthy call. A run of the suite sends 10,000 frames; by hand, as many as you like:

    PERDURE_FUZZ_CASES=100000 .venv/bin/pytest tests/fuzz/test_peer.py
"""

import asyncio
import os
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.actors.clock import EPOCH_MS
from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Behavior,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
)
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    ByWorkflow,
    Call,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Value,
    Void,
)
from perdure.journal.errors import ProtocolError
from perdure.journal.ids import format_awakeable_id, parse_invocation_id
from perdure.journal.requests import Op
from perdure.journal.schema import OnMaxAttempts, RetryPolicy
from tests.actors.remote.peer import Exchange, encode, silent, suspended
from tests.actors.remote.stage import Play, World, check_journal
from tests.journal.wire.strategies import commands, controls

_FRAMES = int(os.environ.get("PERDURE_FUZZ_CASES", "10000"))
_FRAMES_PER_EXAMPLE = 500
_INVOCATIONS_PER_ROUND = 12
_ROUND_S = 40.0  # virtual; longer than three attempts and both timeouts
_TARGETS = ("Thing/a", "Thing/a", "Thing/s", "Plain/a", "Flow/run", "Flow/s")
_KEYS = ("k", "l", "m")

fuzz = settings(
    max_examples=max(1, _FRAMES // _FRAMES_PER_EXAMPLE),
    deadline=None,
    derandomize="PERDURE_FUZZ_CASES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Fuzzer:
    """Plays what ``random`` and some frames of hypothesis make it play."""

    def __init__(self, random: Random, given: list[Any]) -> None:
        self.random = random
        self.given = given
        self.frame_count = 0
        self._next_id = 1
        self.world: World

    async def play(self, x: Exchange) -> None:
        """One attempt, from whatever it sees of the request to whatever end."""
        random = self.random
        if random.random() < 0.05:
            return await self._no_start(x)
        await x.begin(head=False)
        self._next_id = 1 + len(x.replay)
        if random.random() < 0.05:
            await x.head(random.choice((204, 404, 415, 429, 503)), None, ("retry-after", "1"))
        else:
            await x.head(200, "text/html" if random.random() < 0.02 else None)
        for _ in range(random.randrange(8)):
            await self._say(x, self._frame(x))
            if random.random() < 0.2:
                async with asyncio.timeout(5):  # wait_for may swallow the end of this task
                    await x.read()
        await self._end(x)

    async def _no_start(self, x: Exchange) -> None:
        if self.random.random() < 0.5:
            raise ValueError("this app is broken")
        await silent(x)

    async def _say(self, x: Exchange, data: bytes) -> None:
        self.frame_count += 1
        random = self.random
        if random.random() < 0.7:
            return await x.raw(data)
        while data:
            cut = random.randrange(1, 12)
            await x.raw(data[:cut])
            data = data[cut:]
            if random.random() < 0.1:
                await asyncio.sleep(random.random())

    async def _end(self, x: Exchange) -> None:
        random = self.random
        choice = random.random()
        if choice < 0.3:
            await self._say(
                x, b"".join(encode(e, x.version) for e in (Output(Value(b"1")), Ended()))
            )
        elif choice < 0.5:
            await self._say(x, self._encoded(suspended(self._awaiting()), x))
        elif choice < 0.6:
            await self._say(x, self._encoded(self._failed(), x))
        elif choice < 0.7:
            raise ValueError("this app is broken")
        elif choice < 0.8:
            return await silent(x)
        if random.random() < 0.3:
            await self._say(x, random.randbytes(random.randrange(40)))
        if random.random() < 0.7:
            await x.read_all()
        await x.end()

    # ---- frames

    def _frame(self, x: Exchange) -> bytes:
        random = self.random
        choice = random.random()
        if choice < 0.1:
            return random.randbytes(random.randrange(30))
        if choice < 0.3 and self.given:
            data = self._encoded(random.choice(self.given), x)
        else:
            data = self._encoded(random.choice(_COMMANDS)(self, x), x)
        if random.random() < 0.1:
            data = self._mutant(data)
        return data

    def _encoded(self, each: Any, x: Exchange) -> bytes:
        try:
            return encode(each, x.version)
        except ProtocolError:  # not of this version
            return b""

    def _mutant(self, data: bytes) -> bytes:
        random = self.random
        out = bytearray(data)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(out) + 1)
            if random.random() < 0.5:
                out[at : at + 1] = random.randbytes(random.randrange(3))
            elif out:
                out[at % len(out)] ^= 1 << random.randrange(8)
        if len(out) >= 8 and random.random() < 0.7:
            out[4:8] = (len(out) - 8).to_bytes(4, "big")
        return bytes(out)

    def new_id(self) -> int:
        """Mostly an id that nobody used."""
        self._next_id += 1
        return self._next_id if self.random.random() < 0.95 else self.random.randrange(6)

    def old_id(self) -> int:
        return self.random.randrange(self._next_id + 2)

    def key(self) -> str:
        return self.random.choice(_KEYS)

    def time_ms(self) -> int:
        return EPOCH_MS + self.random.choice(
            (0, 1000, 60_000, 10_000_000, 2**62, 2**64 - 1 - EPOCH_MS)
        )

    def outcome(self) -> Value | Failure:
        return Value(b"v") if self.random.random() < 0.7 else Failure(409, "f", {"a": "b"})

    def invocation(self, x: Exchange) -> str:
        return self.random.choice([x.start.debug_id, *self.world.ids])

    def _awaiting(self, depth: int = 0) -> Awaiting:
        random = self.random
        nested = (
            tuple(self._awaiting(depth + 1) for _ in range(random.randrange(3)))
            if depth < 3
            else ()
        )
        return Awaiting(
            random.choice(list(Combinator)),
            tuple(self.old_id() for _ in range(random.randrange(3))),
            tuple(random.choice((1, 17, "s")) for _ in range(random.randrange(2))),
            nested,
        )

    def _failed(self) -> Failed:
        random = self.random
        return Failed(
            random.choice((0, 500, 570, 2**32 - 1)),
            "failed",
            next_retry_delay_ms=random.choice((None, None, 0, 10, 2**63, 2**64 - 1)),
            behavior=random.choice((*[Behavior.RETRY] * 4, Behavior.PAUSE, Behavior.FAIL)),
        )


def _callee(f: Fuzzer) -> tuple[str, str, str]:
    service, _, handler = f.random.choice((*_TARGETS, "Plain/b", "No/body")).partition("/")
    return service, handler, "" if service == "Plain" else f.key()


def _idempotency_key(f: Fuzzer) -> str | None:
    return f.random.choice((None, None, "i", ""))


def _call(f: Fuzzer, x: Exchange) -> Call:
    service, handler, key = _callee(f)
    name = _idempotency_key(f)
    return Call(f.new_id(), f.new_id(), service, handler, key, b"p", idempotency_key=name)


def _one_way_call(f: Fuzzer, x: Exchange) -> OneWayCall:
    service, handler, key = _callee(f)
    at_ms = f.random.choice((0, f.time_ms()))
    name = _idempotency_key(f)
    return OneWayCall(f.new_id(), service, handler, key, b"p", at_ms, idempotency_key=name)


def _awakeable(f: Fuzzer, x: Exchange) -> CompleteAwakeable:
    id = format_awakeable_id(
        parse_invocation_id(f.invocation(x)), f.random.choice((17, 1, 2**32 - 1))
    )
    return CompleteAwakeable(id, f.outcome())


def _signal(f: Fuzzer, x: Exchange) -> SendSignal:
    signal = f.random.choice((1, 17, "s"))
    return SendSignal(f.invocation(x), signal, f.random.choice((Void(), f.outcome())))


_COMMANDS: list[Callable[[Fuzzer, Exchange], Any]] = [
    lambda f, x: SetState(f.key(), b"v"),
    lambda f, x: ClearState(f.key()),
    lambda f, x: ClearAllState(),
    lambda f, x: GetLazyState(f.new_id(), f.key()),
    lambda f, x: GetLazyStateKeys(f.new_id()),
    lambda f, x: GetEagerState(f.key(), None),
    lambda f, x: GetEagerStateKeys(("k",)),
    lambda f, x: GetPromise(f.new_id(), f.key()),
    lambda f, x: PeekPromise(f.new_id(), f.key()),
    lambda f, x: CompletePromise(f.new_id(), f.key(), f.outcome()),
    lambda f, x: Sleep(f.new_id(), f.time_ms()),
    lambda f, x: Run(f.new_id(), "r"),
    lambda f, x: Run(f.new_id(), "r"),
    lambda f, x: ProposeRun(f.old_id(), f.outcome()),
    lambda f, x: ProposeRun(f.old_id(), f.outcome()),
    _call,
    _call,
    _one_way_call,
    _signal,
    _awakeable,
    lambda f, x: AttachInvocation(f.new_id(), ById(f.invocation(x))),
    lambda f, x: AttachInvocation(f.new_id(), ByWorkflow("Flow", f.key())),
    lambda f, x: GetInvocationOutput(f.new_id(), ById(f.invocation(x))),
    lambda f, x: AwaitingOn(f._awaiting()),
]


# ---- the facts ----------------------------------------------------------------------------------


async def _round(world: World, fuzzer: Fuzzer) -> None:
    """Some invocations at once, with signals and operations in between; then end what is left."""
    random, engine = fuzzer.random, world.engine
    for n in range(_INVOCATIONS_PER_ROUND):
        key = random.choice(_KEYS) if n % 2 else f"{random.choice(_KEYS)}{fuzzer.frame_count}"
        id = await world.send(random.choice(_TARGETS), key)
        if random.random() < 0.5:
            await asyncio.sleep(random.random() * 3)
        if random.random() < 0.3:
            await engine.signal(random.choice(world.ids), random.choice((17, "s")), Void())
        if random.random() < 0.2:
            op = random.choice((Op.CANCEL, Op.PAUSE, Op.RESUME, Op.KILL))
            await engine.operate(random.choice([*world.ids[-5:], id]), op)
    await asyncio.sleep(_ROUND_S)
    while left := engine.unfinished():
        for each in left:
            await engine.operate(each.id, Op.KILL)
            if await engine.invocation(each.id) is not None:
                await check_journal(world, each.id)
    await world.probe(*_KEYS)


@fuzz
@given(
    st.integers(0, 2**64),
    st.lists(commands | controls, max_size=12),
    st.sampled_from([5, 6, 7]),
    st.booleans(),
)
def test_the_engine_outlives_any_peer(
    seed: int, given: list[Any], version: int, bidi: bool
) -> None:
    fuzzer = Fuzzer(Random(seed), given)

    async def scenario(world: World) -> None:
        fuzzer.world = world
        world.peer.default = fuzzer.play
        while fuzzer.frame_count < _FRAMES_PER_EXAMPLE:
            await _round(world, fuzzer)

    Play(on_disk=False)(
        scenario,
        bidi=bidi,
        version=version,
        seed=seed % 2**32,
        inactivity_timeout_ms=2_000,
        abort_timeout_ms=3_000,
        retry=RetryPolicy(max_attempts=3, on_max_attempts=OnMaxAttempts.KILL),
    )
