"""Runs small trees as real processes, and waits for what happens in them."""

import base64
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from perdure.actors.processes.status import ProcessTree

PATIENCE_S = 30.0
FACTORY = "tests.actors.processes.small_tree:SmallWorker"
QUICK = {
    "intensity": 3,
    "window_s": 2.0,
    "first_backoff_s": 0.01,
    "heartbeat_interval_s": 0.1,
    "heartbeat_timeout_s": 5.0,
}


def worker(name: str, **orders: Any) -> dict[str, Any]:
    """A worker of the plan; what follows after a dash in its name is its index."""
    kind, _, index = name.partition("-")
    return {
        "name": name,
        "kind": kind,
        "index": int(index),
        "factory": FACTORY,
        "stage": 0 if kind == "partition" else 1,
        "exhausted": "down" if kind == "partition" else "escalate",
        "payload": orders,
    }


class RunningTree:
    """One `small_tree.py`. Leave the ``with`` and every process of it is gone."""

    def __init__(self, data: Path, workers: list[dict[str, Any]], **strategy: Any) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        pipe = data / "events"
        if not pipe.exists():
            os.mkfifo(pipe)
        self._events = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.seen: list[dict[str, Any]] = []
        self._marker = f"tree-{uuid.uuid4()}"
        plan = {"workers": [], "strategy": {**QUICK, **strategy}}
        for each in workers:
            orders = json.dumps({**each["payload"], "data": str(data)}).encode()
            plan["workers"].append({**each, "payload": base64.b64encode(orders).decode()})  # type: ignore[attr-defined]
        self.watchdog = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.actors.processes.small_tree",
                str(data),
                json.dumps(plan),
            ],
            env={**os.environ, "TREE": self._marker},
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> "RunningTree":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.watchdog.wait()
        assert self.watchdog.stderr is not None
        self.watchdog.stderr.close()
        os.close(self._events)

    # ---- events

    def next_event(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._rest:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([self._events], [], [], max(0.0, left_s))
            assert ready, f"nothing happened any more after {self.seen[-5:]}"
            self._rest += os.read(self._events, 65_536)
        line, _, self._rest = self._rest.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        self.seen.append(event)
        return event

    def until(self, what: str, name: str | None = None, **more: Any) -> dict[str, Any]:
        """The next event that matches."""
        while True:
            event = self.next_event()
            if event["what"] != what or (name is not None and event.get("name") != name):
                continue
            if all(event.get(key) == value for key, value in more.items()):
                return event

    def until_introduced(self, to: str, peer: str, other_than: int = 0) -> int:
        """Until ``to`` learns of ``peer`` in another epoch; returns that."""
        while True:
            peers = self.until("introduced", to)["peers"]
            if peer in peers and peers[peer][0] != other_than:
                return int(peers[peer][0])

    def names(self, what: str) -> list[str]:
        """Whom it happened to, in order."""
        return [event["name"] for event in self.seen if event["what"] == what]

    # ---- processes

    def status(self) -> ProcessTree:
        """As the worker with the order `status_to` last saw it."""
        found = (self.data / "status").read_bytes()
        return msgspec.json.decode(found, type=ProcessTree)

    def pids(self) -> list[int]:
        """Every process that descends from this tree's program, whoever its parent is now."""
        marker = f"TREE={self._marker}".encode()
        return [pid for pid in _all_pids() if marker in _environ(pid)]

    def wait_until_gone(self, pids: list[int]) -> None:
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                assert select.select([fd], [], [], PATIENCE_S)[0], f"{pid} is still there"
            finally:
                os.close(fd)

    def end(self) -> int:
        """Ask it to stop; its exit code."""
        self.watchdog.send_signal(signal.SIGTERM)
        return self.watchdog.wait(PATIENCE_S)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listening(pid: int) -> list[tuple[str, int]]:
    """Addresses and ports on which a process accepts TCP connections."""
    inodes = {_link(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            address, _, port = fields[1].partition(":")
            host = ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
            found.append((host, int(port, 16)))
    return found


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _all_pids() -> Iterator[int]:
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            yield int(each.name)


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it ended, or belongs to another user
        return b""
