"""What a worker process does, from where it starts to its end; and what it may ask of the tree.

The work itself is a Worker, made by the factory that the plan names.
"""

import asyncio
import gc
import importlib
import itertools
from typing import Any, Protocol

import msgspec

from perdure.actors.processes import hygiene, inherited, messages
from perdure.actors.processes.loop_actor import LoopActor
from perdure.actors.processes.messages import Peer
from perdure.actors.processes.plan import WorkerSpec
from perdure.actors.processes.status import ProcessTree
from perdure.journal.errors import PerdureError


class StartRefused(PerdureError):
    """A worker can't start by what the user asked for: a setting, a target. Another try can't help."""


class StoreRefused(StartRefused):
    """A worker can't open its store at the first start. Later it is tried again, while the others serve."""


class Start(msgspec.Struct, frozen=True):
    """Who a worker is. ``socket``: the path that it may listen on; the supervisor removes it."""

    name: str
    kind: str
    index: int
    epoch: int
    socket: str
    payload: bytes


class Tree(Protocol):
    """The tree around a worker, as the worker may use it."""

    async def status(self) -> ProcessTree:
        """All processes."""

    async def broadcast(self, body: bytes) -> None:
        """Tell all others who are up; returns when all have done what they were told."""


class Worker(Protocol):
    """The work of one process, on its loop. What a method raises ends the process."""

    async def start(self, tree: Tree) -> dict[str, str]:
        """Returns what the others and the operators should know. Raises StartRefused."""

    async def introduced(self, peers: tuple[Peer, ...], down: dict[str, str]) -> None:
        """All who are up now, this one included; one list after the other.

        ``down``: who is not expected back soon, and why, by name.
        """

    async def told(self, body: bytes) -> None:
        """Another one broadcasts."""

    async def stop(self) -> None:
        """End in order. Not called where ``start`` did not return."""


class WorkerActor(LoopActor):
    """The Thespian side of every worker; it speaks to the supervisor over a line of its own."""

    def __init__(self) -> None:
        self._line = inherited.worker_line()
        self._worker: Worker | None = None
        self._is_up = False
        self._name, self._epoch = "", 0
        self._ids = itertools.count(1)
        self._trees: dict[int, asyncio.Future[ProcessTree]] = {}
        self._broadcasts: dict[int, asyncio.Future[None]] = {}
        self._newest: messages.Introduction | None = None
        self._introducing = False
        super().__init__()

    async def main(self) -> None:
        self.loop.add_reader(self._line.fileno(), self._hear)

    async def stopping(self) -> None:
        if self._worker is not None and self._is_up:
            await self._worker.stop()

    # ---- Tree

    async def status(self) -> ProcessTree:
        id = next(self._ids)
        self._trees[id] = self.loop.create_future()
        self._say(messages.AskTree(self._name, self._epoch, id))
        try:
            return await self._trees[id]
        finally:
            del self._trees[id]

    async def broadcast(self, body: bytes) -> None:
        id = next(self._ids)
        self._broadcasts[id] = self.loop.create_future()
        self._say(messages.Broadcast(self._name, self._epoch, id, body))
        try:
            await self._broadcasts[id]
        finally:
            del self._broadcasts[id]

    # ---- messages

    def _hear(self) -> None:
        try:
            data = self._line.recv(messages.LIMIT_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:  # the supervisor is gone, and the kernel is about to end this process
            self.loop.remove_reader(self._line.fileno())
            return
        told = messages.decode_for_worker(data)
        match told:
            case messages.Init():
                self.run(self._begin(told))
            case messages.Ping():
                self._say(messages.Pong(self._name, self._epoch))
            case messages.Introduction():
                self._newest = told
                if not self._introducing:
                    self._introducing = True
                    self.run(self._introduce())
            case messages.TreeAnswer():
                _settle(self._trees.get(told.id), told.tree)
            case messages.BroadcastDone():
                _settle(self._broadcasts.get(told.id), None)
            case messages.Told():
                self.run(self._be_told(told))
            case messages.Stop():
                self.run(self.end())

    async def _begin(self, init: messages.Init) -> None:
        self._name, self._epoch = init.name, init.epoch
        hygiene.name_process(init.name)
        spec = next(each for each in inherited.get().plan.workers if each.name == init.name)
        try:
            self._worker = _make(spec, init)
            info = await self._worker.start(self)
        except PerdureError as error:
            refused = isinstance(error, StartRefused), isinstance(error, StoreRefused)
            self._say(messages.Failed(self._name, self._epoch, str(error), *refused))
            return  # the supervisor ends this process
        gc.collect()
        gc.freeze()
        self._is_up = True
        self._say(messages.Ready(self._name, self._epoch, info))

    async def _introduce(self) -> None:
        """One list after the other; what is outdated by then is left out."""
        assert self._worker is not None
        shown = None
        while shown is not self._newest:
            shown = self._newest
            assert shown is not None
            await self._worker.introduced(shown.peers, shown.down)
        self._introducing = False

    async def _be_told(self, told: messages.Told) -> None:
        assert self._worker is not None
        await self._worker.told(told.body)
        origin = (told.sender, told.sender_epoch, told.id)
        self._say(messages.Heard(self._name, self._epoch, *origin))

    def _say(self, message: messages.ToSupervisor) -> None:
        self._line.send(messages.encode(message))


def _make(spec: WorkerSpec, init: messages.Init) -> Worker:
    module, _, name = spec.factory.partition(":")
    factory = getattr(importlib.import_module(module), name)
    start = Start(spec.name, spec.kind, spec.index, init.epoch, init.socket, spec.payload)
    worker: Worker = factory(start)
    return worker


def _settle(future: "asyncio.Future[Any] | None", result: Any) -> None:
    if future is not None and not future.done():
        future.set_result(result)
