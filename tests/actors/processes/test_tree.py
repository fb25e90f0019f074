"""A real tree under SIGKILL and SIGSTOP: who comes back, in which order, and that nobody is left over."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.actors.processes import hygiene
from tests.actors.processes.trees import RunningTree, children, worker

ROOT = Path(__file__).parents[3]


def _tree(data: Path, **strategy: object) -> RunningTree:
    workers = [
        worker("partition-0"),
        worker("partition-1"),
        worker("gateway-0", status_to=str(data / "status")),
    ]
    return RunningTree(data, workers, **strategy)


def _pid(tree: RunningTree, name: str) -> int:
    return int(next(e["pid"] for e in reversed(tree.seen) if e.get("name") == name))


def _settle(tree: RunningTree) -> None:
    """Until the tree is up and gateway-0 has written the status of this tree."""
    missing = {"up", "status"}
    while missing:
        missing.discard(tree.next_event()["what"])


def test_gateways_start_after_partitions_and_are_drained_before_them(tmp_path: Path) -> None:
    with _tree(tmp_path) as tree:
        tree.until("up")
        pids = tree.pids()
        assert tree.end() == 0
        tree.wait_until_gone(pids)
        while tree.names("stop")[2:] == []:
            tree.until("stop")
        assert sorted(tree.names("start")[:2]) == ["partition-0", "partition-1"]
        assert tree.names("start")[2] == "gateway-0"
        assert tree.names("stop")[0] == "gateway-0"
        assert list((tmp_path / "run").glob("*.sock")) == []
        assert tree.pids() == []


@pytest.mark.parametrize("name", ["partition-0", "gateway-0"])
def test_a_killed_worker_is_started_again_and_introduced_under_a_higher_epoch(
    tmp_path: Path, name: str
) -> None:
    with _tree(tmp_path) as tree:
        tree.until("up")
        before = max(e["epoch"] for e in tree.seen if e.get("name") == name)
        os.kill(_pid(tree, name), signal.SIGKILL)
        assert tree.until_introduced("partition-1", name, before) > before
        assert tree.watchdog.poll() is None


def test_a_stopped_worker_counts_as_dead(tmp_path: Path) -> None:
    with _tree(tmp_path) as tree:
        tree.until("up")
        pid = _pid(tree, "partition-0")
        os.kill(pid, signal.SIGSTOP)
        tree.until("start", "partition-0")
        tree.wait_until_gone([pid])


def test_a_worker_whose_loop_hangs_counts_as_dead(tmp_path: Path) -> None:
    workers = [worker("partition-0", deaf_once=True)]
    with RunningTree(tmp_path, workers, heartbeat_timeout_s=0.5) as tree:
        first = tree.until("start")
        second = tree.until("start")
        assert second["epoch"] > first["epoch"]
        tree.wait_until_gone([first["pid"]])


def test_a_worker_that_never_gets_ready_is_killed_and_tried_again(tmp_path: Path) -> None:
    with RunningTree(
        tmp_path, [worker("partition-0", never_ready=True)], start_timeout_s=0.3
    ) as tree:
        first, second = tree.until("start"), tree.until("start")
        assert second["pid"] != first["pid"]


@pytest.mark.parametrize("victim", ["the Admin", "the supervisor"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_the_whole_tree_comes_back_after_the_end_of(
    tmp_path: Path, victim: str, signum: signal.Signals
) -> None:
    with _tree(tmp_path) as tree:
        _settle(tree)
        status = tree.status()
        old = [pid for pid in tree.pids() if pid != tree.watchdog.pid]
        epochs = {w.name: w.epoch for w in status.workers}
        os.kill(status.admin_pid if victim == "the Admin" else status.supervisor_pid, signum)
        _settle(tree)
        tree.wait_until_gone(old)
        after = tree.status()
        assert after.watchdog_pid == status.watchdog_pid
        assert after.restart_count == 1
        assert victim in after.last_error
        assert all(w.epoch > epochs[w.name] for w in after.workers)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_logger_that_ends_or_hangs_is_replaced_and_disturbs_nobody(
    tmp_path: Path, signum: signal.Signals
) -> None:
    with _tree(tmp_path) as tree:
        _settle(tree)
        status = tree.status()
        (logger,) = set(children(status.admin_pid)) - {status.supervisor_pid}
        os.kill(logger, signum)
        tree.wait_until_gone([logger])
        os.kill(_pid(tree, "partition-0"), signal.SIGKILL)  # and restarts still work
        tree.until_introduced("partition-1", "partition-0", status.workers[0].epoch)
        assert hygiene.is_alive(status.admin_pid)
        assert hygiene.is_alive(status.supervisor_pid)
        assert tree.watchdog.poll() is None


def test_nobody_outlives_a_killed_watchdog_and_its_data_can_be_served_again(tmp_path: Path) -> None:
    with _tree(tmp_path) as tree:
        tree.until("up")
        pids = tree.pids()
        assert len(pids) == 7  # watchdog, Admin, logger, supervisor, three workers
        tree.watchdog.kill()
        tree.wait_until_gone(pids)
        assert tree.pids() == []
        epochs = [e["epoch"] for e in tree.seen if e["what"] == "start"]
    with _tree(tmp_path) as again:
        again.until("up")
        assert min(e["epoch"] for e in again.seen if e["what"] == "start") > max(epochs)


def test_a_partition_whose_store_fails_is_down_alone_and_is_tried_again(tmp_path: Path) -> None:
    disk_full = tmp_path / "full"
    disk_full.touch()
    workers = [
        worker("partition-0", fail=str(disk_full)),
        worker("partition-1"),
        worker("gateway-0", status_to=str(tmp_path / "status")),
    ]
    with RunningTree(tmp_path, workers, window_s=0.5) as tree:
        up = tree.until("up")
        assert up["names"] == ["partition-1", "gateway-0"]
        assert up["down"] == {"partition-0": "the disk is full"}
        disk_full.unlink()
        tree.until_introduced("gateway-0", "partition-0")


def test_a_gateway_that_keeps_failing_makes_the_whole_tree_start_anew(tmp_path: Path) -> None:
    with _tree(tmp_path, window_s=60.0) as tree:
        _settle(tree)
        before = tree.status()
        for _ in range(4):  # one more than the intensity
            os.kill(_pid(tree, "gateway-0"), signal.SIGKILL)
            tree.until("start", "gateway-0")
        _settle(tree)
        after = tree.status()
        assert after.supervisor_pid != before.supervisor_pid
        assert "gateway-0 failed 4 times" in after.last_error


def test_a_start_that_is_refused_says_why_and_leaves_nobody(tmp_path: Path) -> None:
    workers = [worker("partition-0"), worker("gateway-0", refuse="the port is taken")]
    with RunningTree(tmp_path, workers) as tree:
        assert tree.watchdog.wait(30) == 1
        assert tree.watchdog.stderr is not None
        assert b"refused: the port is taken" in tree.watchdog.stderr.read()
        assert tree.pids() == []


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    workers = [worker("partition-0", endless_stop=True), worker("gateway-0")]
    with RunningTree(tmp_path, workers, stop_timeout_s=0.3) as tree:
        tree.until("up")
        assert tree.end() == 0
        assert tree.pids() == []


def test_one_worker_tells_all_others_and_learns_that_they_have_heard(tmp_path: Path) -> None:
    workers = [worker("partition-0"), worker("partition-1"), worker("gateway-0", broadcast="read!")]
    with RunningTree(tmp_path, workers) as tree:
        tree.until("broadcast done", "gateway-0")
        assert sorted(tree.names("told")) == ["partition-0", "partition-1"]


def test_a_second_tree_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with _tree(tmp_path) as tree:
        tree.until("up")
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.actors.processes.small_tree",
                str(tmp_path),
                '{"workers":[]}',
            ],
            capture_output=True,
            timeout=30,
        )
        assert second.returncode != 0
        assert b"in use by process %d, another `perdure up`" % tree.watchdog.pid in second.stderr
        assert tree.watchdog.poll() is None


STILLBORN = """
import os, signal, sys
from thespian.system import multiprocCommon
from tests.actors.processes import small_tree

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

multiprocCommon.startChild = die  # what a new process begins with
small_tree.main()
"""


def test_a_supervisor_that_is_killed_before_anybody_has_seen_it_is_noticed_at_once(
    tmp_path: Path,
) -> None:
    plan = json.dumps({"workers": [{**worker("partition-0"), "payload": ""}]})
    command = [sys.executable, "-c", STILLBORN, str(tmp_path), plan]
    # Thespian alone would wait for 50 s, and three starts are tried
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=45)
    assert done.returncode != 0
    assert "a process was killed while the tree started" in done.stderr
