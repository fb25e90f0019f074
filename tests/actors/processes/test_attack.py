"""Thespian's wire is pickle: strangers who reach a port of ours run nothing and break nothing."""

import os
import pickle
import signal
import socket
from pathlib import Path
from typing import Any

from tests.actors.processes.test_tree import _settle, _tree
from tests.actors.processes.trees import RunningTree, listening


class _Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _framed(data: bytes) -> bytes:
    return b"%d>%b" % (len(data), data)


def _send(port: int, data: bytes) -> bytes:
    """What comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(data)
        received = b""
        try:
            while more := peer.recv(1000):
                received += more
        except ConnectionResetError:
            pass  # closed before it had read everything
        return received


def _ports(tree: RunningTree) -> list[int]:
    found = [address for pid in tree.pids() for address in listening(pid)]
    assert {host for host, _ in found} == {"127.0.0.1"}
    return sorted({port for _, port in found} - _own_ports(tree))


def _own_ports(tree: RunningTree) -> set[int]:
    """The watchdog's: nobody listens there but while a tree starts."""
    return {port for _, port in listening(tree.watchdog.pid)}


def test_a_malicious_pickle_is_not_executed_and_the_tree_goes_on(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    evil = pickle.dumps((None, _Evil(trap)))
    with _tree(tmp_path) as tree:
        _settle(tree)
        before = tree.status()
        ports = _ports(tree)
        assert len(ports) == 6  # Admin, logger, supervisor, three workers
        for port in ports:
            _send(port, _framed(evil))
            _send(port, _framed(b"M" + bytes(32) + evil))
            _send(port, _framed(b"C" + bytes(32) + evil))
            _send(port, b"-5>" + evil)
            _send(port, b"99999999999999999999")
            _send(port, b"999999999>")
            _send(port, b"no length at all, and no end of it either")
        assert not trap.exists()
        worker = before.workers[0]
        os.kill(worker.pid, signal.SIGKILL)  # the supervisor still starts processes
        tree.until_introduced("gateway-0", worker.name, worker.epoch)
        tree.until("status")
        after = tree.status()
        assert (after.admin_pid, after.supervisor_pid) == (before.admin_pid, before.supervisor_pid)
        assert [w.pid for w in after.workers[1:]] == [w.pid for w in before.workers[1:]]


def test_strangers_that_hold_connections_do_not_keep_anybody_out(tmp_path: Path) -> None:
    with _tree(tmp_path) as tree:
        _settle(tree)
        before = tree.status()
        held = []
        for port in _ports(tree):
            held += [socket.create_connection(("127.0.0.1", port)) for _ in range(80)]
        try:
            worker = before.workers[0]
            os.kill(worker.pid, signal.SIGKILL)
            tree.until_introduced("gateway-0", worker.name, worker.epoch)
            assert tree.end() == 0
        finally:
            for each in held:
                each.close()
