"""Nobody outlives its parent, whenever that ends."""

import subprocess
import sys
from pathlib import Path

from perdure.actors.processes import hygiene

_ORPHAN = """
import os
from perdure.actors.processes import hygiene

gone, parents_end = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(parents_end)
        os.read(gone, 1)  # until the parent has ended
        hygiene.die_with_parent({parent})
        os.write(1, b"it goes on")
    os._exit(0)
"""


def _said(parent: str) -> bytes:
    """All that is said until nobody is left who could say something."""
    program = [sys.executable, "-c", _ORPHAN.format(parent=parent)]
    return subprocess.run(program, capture_output=True, check=True, timeout=60).stdout


def test_who_lost_its_parent_before_it_was_tied_to_it_ends_at_once() -> None:
    assert _said("") == b""


def test_who_was_to_be_adopted_by_somebody_who_died_ends_at_once() -> None:
    """As the Admin, whose watchdog was killed while it started a tree."""
    assert _said("os.getppid() + 1") == b""


def test_the_port_of_an_admin_is_none_that_the_kernel_gives_to_others() -> None:
    """Between the choice and the Admin's bind, an outgoing connection could take it."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    ports = {hygiene.free_port() for _ in range(20)}
    assert len(ports) > 1
    assert not ports & set(range(int(first), int(last) + 1))
