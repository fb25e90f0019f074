"""A tree of small real workers, run as a process of its own: `python small_tree.py DATA PLAN`.

Each worker writes what happens to it into the pipe DATA/events, one JSON object a line, and does what
its payload says. PLAN is the plan as JSON.
"""

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path

import msgspec

from perdure.actors.plane.sockets import listening_socket
from perdure.actors.processes.messages import Peer, Up
from perdure.actors.processes.plan import Plan
from perdure.actors.processes.watchdog import Watchdog
from perdure.actors.processes.worker import Start, StartRefused, Tree
from perdure.journal.errors import StoreError


class Orders(msgspec.Struct):
    """What a small worker does."""

    data: str
    fail: str = ""  # StoreError at its start while this file is there
    refuse: str = ""
    never_ready: bool = False
    deaf_once: bool = False  # in its first process, its loop hangs
    endless_stop: bool = False
    status_to: str = ""  # write the tree's status here, whenever somebody is introduced
    broadcast: str = ""


class SmallWorker:
    def __init__(self, start: Start) -> None:
        self.me = start
        self.orders = msgspec.json.decode(start.payload, type=Orders)

    def note(self, what: str, **more: object) -> None:
        line = {"what": what, "name": self.me.name, "epoch": self.me.epoch, "pid": os.getpid()}
        with Path(self.orders.data, "events").open("w") as file:
            file.write(json.dumps({**line, **more}) + "\n")

    async def start(self, tree: Tree) -> dict[str, str]:
        self.tree = tree
        self.note("start")
        if self.orders.refuse:
            raise StartRefused(self.orders.refuse)
        if self.orders.fail and Path(self.orders.fail).exists():
            raise StoreError("the disk is full")
        if self.orders.never_ready:
            await asyncio.Event().wait()
        listening = listening_socket(Path(self.me.socket))
        self.server = await asyncio.start_unix_server(self.answer, sock=listening)
        return {"pid": str(os.getpid())}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.me.name.encode())
        await writer.drain()
        writer.close()

    async def introduced(self, peers: tuple[Peer, ...], down: dict[str, str]) -> None:
        seen = {peer.name: [peer.epoch, peer.socket] for peer in peers}
        self.note("introduced", peers=seen, down=down)
        if self.orders.deaf_once and self.me.epoch & 0xFFFFF == 1:
            time.sleep(600)  # on the loop, as a bad handler does
        if self.orders.status_to:
            status = await self.tree.status()
            new = Path(self.orders.status_to + ".new")
            new.write_bytes(msgspec.json.encode(status))
            new.replace(self.orders.status_to)
            self.note("status")
        if self.orders.broadcast:
            body, self.orders.broadcast = self.orders.broadcast, ""
            await self.tree.broadcast(body.encode())
            self.note("broadcast done")

    async def told(self, body: bytes) -> None:
        self.note("told", body=body.decode())

    async def stop(self) -> None:
        self.note("stop")
        if self.orders.endless_stop:
            await asyncio.Event().wait()


def main() -> None:
    data, plan = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)

    def up(message: Up) -> None:
        line = {"what": "up", "names": [p.name for p in message.peers], "down": message.down}
        with Path(data, "events").open("w") as file:
            file.write(json.dumps(line) + "\n")

    try:
        with Watchdog(data, up) as watchdog:
            watchdog.run(msgspec.json.decode(plan.encode(), type=Plan))
    except StartRefused as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    main()
