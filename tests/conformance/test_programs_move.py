"""Programs written on the official SDK move by changing one import: the conformance suite drives them.

The suite and its programs lie in ../shared/conformance beside the checkout and are not part of this
repository; without them only the native programs (`test_native_programs.py`) are run. What the suite
may not ask yet: `hosted.LEFT_OUT`. PROFILES in the environment chooses others, comma separated.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "conformance"
_LIMIT_S = 300


def free_ports(count: int) -> list[str]:
    """Ports that nobody listens on; all are held open until the last one is found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize(
    "profile", os.environ.get("PROFILES", "default,suspend,policy,durable").split(",")
)
def test_programs_of_the_official_sdk_run_on_perdure(profile: str, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"there is no {SHARED}: the native programs have to do")
    ingress, admin, node = free_ports(3)
    environment = {
        **os.environ,
        "CONF_TARGET": str(HERE / "target.json"),
        "CONF_WORK": str(tmp_path),
        "CONF_PROFILES": profile,
        "CONF_INGRESS_PORT": ingress,
        "CONF_ADMIN_PORT": admin,
        "CONF_NODE_PORT": node,
        "MOVED_PROGRAMS": str(SHARED / "services_py"),
        "MOVED_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    suite = SHARED / "suite"
    command = [sys.executable, "-m", "pytest", "-p", "hosted", "--tb=short", "-c"]
    command += [str(suite / "pytest.ini"), "--rootdir", str(suite), str(suite / "tests")]
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"
    assert " 0 failed" in done.stdout
