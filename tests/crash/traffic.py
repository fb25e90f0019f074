"""A client program that keeps a server busy while it is killed, and notes everything that it saw.

Each loop below uses one part of the engine (programs/everything.py has the services). Answers that do
not come are asked for again under the same idempotency key, or noted as unknown. Judges nothing: that
is for checkers.py.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from itertools import count
from random import Random
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from tests.crash.checkers import Add, Answer, Attempted, Timer

_REQUEST_TIMEOUT_S: Final = 30.0  # a hang shows as an unknown answer, never as a stuck test
_COUNTERS: Final = ("a", "b", "c")


class Reply(msgspec.Struct, frozen=True):
    status: int
    invocation_id: str
    body: bytes

    def value(self) -> Any:
        return json.loads(self.body)


class History(msgspec.Struct):
    """What the clients saw. See the checkers for the meaning of each part."""

    adds: dict[str, list[Add]] = msgspec.field(default_factory=lambda: defaultdict(list))
    recorded: dict[tuple[str, str], str] = {}
    sent: dict[str, dict[str, int]] = msgspec.field(default_factory=lambda: defaultdict(dict))
    answers: list[Answer] = []
    timers: list[Timer] = []
    completed: dict[str, list[str]] = msgspec.field(default_factory=lambda: defaultdict(list))
    found: dict[str, str] = {}
    requests: list[Attempted] = []
    pipeline_calls: int = 0


class Traffic:
    """``url`` is asked before each request, as a restarted server has another port."""

    def __init__(self, url: Callable[[], str], rng: Random) -> None:
        self.history = History()
        self.serving = asyncio.Event()
        self.stopping = False
        self._url = url
        self._rng = rng
        self._names = count()
        self._known: list[tuple[str, object, str]] = []  # path, body, key: to be asked for again
        self._progress = 0
        self._wanted: tuple[int, asyncio.Future[None]] | None = None

    async def run(self) -> None:
        """Until ``stopping`` is set and everything that was begun has ended."""
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, skip_auto_headers=("content-type",)
        ) as self._session:
            loops: list[Callable[[], Coroutine[Any, Any, None]]] = [
                *[self._count_up] * 4, *[self._count_blindly] * 2, *[self._side_effects] * 2,
                *[self._nap] * 3, self._send_later, *[self._burst] * 2, self._awakeable,
                self._workflow, self._ask_again,
            ]  # fmt: skip
            async with asyncio.TaskGroup() as group:
                group.create_task(self._append_in_order())
                for each in loops:
                    group.create_task(self._repeat(each))

    async def _repeat(self, once: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self.stopping:
            await once()

    async def progress(self, steps: int) -> None:
        """Wait until ``steps`` more requests were begun or answered."""
        reached = asyncio.get_running_loop().create_future()
        self._wanted = self._progress + steps, reached
        await reached

    def _step(self) -> None:
        self._progress += 1
        if self._wanted is not None and self._progress >= self._wanted[0]:
            self._wanted[1].set_result(None)
            self._wanted = None

    # ---- requests --------------------------------------------------------------------------------

    async def ask(
        self, path: str, body: object = None, key: str | None = None, method: str = "POST"
    ) -> Reply | None:
        """One request; None where whether it was carried out is unknown."""
        headers = {} if key is None else {"idempotency-key": key}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode()
        await self.serving.wait()
        called_ns = time.monotonic_ns()
        self._step()
        reply = await self._exchange(method, self._url() + path, content, headers)
        returned_ns = time.monotonic_ns()
        self.history.requests.append(Attempted(called_ns, returned_ns, reply is not None))
        if reply is not None:
            self._step()
        return reply

    async def _exchange(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str]
    ) -> Reply | None:
        try:
            async with self._session.request(method, url, data=content, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None
        source = answer.headers.get("x-restate-error-source")
        if source == "ingress" and answer.status >= 500:
            return None
        assert source is None, f"{url} was refused: {answer.status} {body!r}"
        return Reply(answer.status, answer.headers.get("x-restate-id", ""), body)

    async def insist(
        self, path: str, body: object = None, key: str | None = None, method: str = "POST"
    ) -> Reply:
        """The answer, however often it takes. Without ``key`` the request must do no harm twice."""
        while (reply := await self.ask(path, body, key, method)) is None:
            pass
        return reply

    async def once(self, path: str, body: object) -> Reply:
        """Insist under a new idempotency key."""
        key = f"once-{next(self._names)}"
        reply = await self.insist(path, body, key)
        if not path.partition("?")[0].endswith("/send"):
            self.history.answers.append(Answer(key, reply.invocation_id, reply.body))
            self._known.append((path, body, key))
        return reply

    async def attach(self, invocation_id: str) -> Reply:
        return await self.insist(f"/restate/invocation/{invocation_id}/attach", method="GET")

    # ---- what the clients do ---------------------------------------------------------------------

    async def _count_up(self) -> None:
        key, amount = self._rng.choice(_COUNTERS), self._rng.randint(1, 3)
        called_ns = time.monotonic_ns()
        reply = await self.once(f"/Counter/{key}/add", amount)
        old, new = reply.value()
        self.history.adds[key].append(Add(called_ns, time.monotonic_ns(), amount, (old, new)))

    async def _count_blindly(self) -> None:
        """Without an idempotency key: what gets no answer may have happened."""
        key = self._rng.choice(_COUNTERS)
        called_ns = time.monotonic_ns()
        reply = await self.ask(f"/Counter/{key}/add", 1)
        seen = None
        if reply is not None:
            old, new = reply.value()
            seen = (old, new)
        self.history.adds[key].append(Add(called_ns, time.monotonic_ns(), 1, seen))

    async def _ask_again(self) -> None:
        """The same request again: the same answer from the same invocation."""
        if not self._known:
            await self._count_up()
        path, body, key = self._rng.choice(self._known)
        reply = await self.insist(path, body, key)
        self.history.answers.append(Answer(key, reply.invocation_id, reply.body))

    async def _side_effects(self) -> None:
        how_many = self._rng.randint(1, 5)
        reply = await self.once("/Pipeline/steps", how_many)
        for i, token in enumerate(reply.value()):
            self.history.recorded[reply.invocation_id, str(i)] = token
        self.history.pipeline_calls += how_many

    async def _nap(self) -> None:
        reply = await self.once("/Pipeline/nap", self._rng.randint(1, 150))
        self._fired(reply, "wake", *reply.value())

    async def _send_later(self) -> None:
        delay_ms = self._rng.randint(1, 300)
        due_ms = time.time_ns() // 1_000_000 + delay_ms
        sent = await self.once(f"/Pipeline/fire/send?delay={delay_ms}ms", due_ms)
        reply = await self.attach(sent.invocation_id)
        self._fired(reply, "fire", *reply.value())

    def _fired(self, reply: Reply, step: str, due_ms: int, fired_ms: int, token: str) -> None:
        self.history.timers.append(Timer(reply.invocation_id, due_ms, fired_ms))
        self.history.recorded[reply.invocation_id, step] = token

    async def _burst(self) -> None:
        """Two senders to a receiver."""
        number, how_many = next(self._names), self._rng.randint(1, 12)
        key = f"receiver-{number // 20}"
        reply = await self.once(f"/Sender/{number % 5}/burst", [key, how_many])
        self.history.sent[key][reply.value()] = how_many

    async def _append_in_order(self) -> None:
        """One client, each send acknowledged before the next."""
        for i in count():
            if self.stopping:
                return
            await self.once("/Receiver/of-a-client/append/send", ["client", i])
            self.history.sent["of-a-client"]["client"] = i + 1

    async def _awakeable(self) -> None:
        """Several complete one awakeable with different values, resolving and rejecting."""
        key = f"waiter-{next(self._names)}"
        sent = await self.once(f"/Waiter/{key}/wait/send", None)
        while (id := (await self.insist(f"/Waiter/{key}/pending")).value()) is None:
            await asyncio.sleep(0)
        values = [f"value-{i}" for i in range(self._rng.randint(1, 3))]
        self.history.completed[id] = [*values, 'rejected: "no"']
        completions = [self.insist(f"/restate/awakeables/{id}/resolve", each) for each in values]
        if self._rng.random() < 0.3:
            completions.append(self.insist(f"/restate/awakeables/{id}/reject", "no"))
        self._rng.shuffle(completions)
        await asyncio.gather(*completions)
        reply = await self.attach(sent.invocation_id)
        awakeable_id, found, token = reply.value()
        assert awakeable_id == id, "the waiter published another awakeable than it waited for"
        self.history.found[id] = found
        step = f"came:{found.replace(' ', '_')}"
        self.history.recorded[sent.invocation_id, step] = token
        again = await self.attach(sent.invocation_id)
        for each in (reply, again):
            self.history.answers.append(Answer(f"attach {id}", sent.invocation_id, each.body))

    async def _workflow(self) -> None:
        key = f"request-{next(self._names)}"
        await self.insist(f"/Approval/{key}/run/send", key)
        verdict = self._rng.choice(["yes", "no"])
        await self.once(f"/Approval/{key}/decide", verdict)
        reply = await self.insist(f"/restate/workflow/Approval/{quote(key)}/attach", method="GET")
        request, found, token = reply.value()
        self.history.completed[key] = [verdict]
        self.history.found[request] = found
        self.history.recorded[reply.invocation_id, "note"] = token
