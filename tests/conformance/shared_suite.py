"""Runs the shared conformance suite against a target. It lies in ../shared/conformance beside the checkout.

The suite and its programs are not part of this repository.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ports import free_ports

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "conformance"
_LIMIT_S = 420


def require() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"there is no {SHARED}: the native programs have to do")


def run(
    target: str,
    profiles: str,
    plugins: list[str],
    work: Path,
    more: Mapping[str, str],
) -> str:
    """What the suite printed; fails with it where a case failed."""
    ingress, admin, node = map(str, free_ports(3))
    environment = {
        **os.environ,
        "CONF_TARGET": str(HERE / target),
        "CONF_WORK": str(work),
        "CONF_PROFILES": profiles,
        "CONF_INGRESS_PORT": ingress,
        "CONF_ADMIN_PORT": admin,
        "CONF_NODE_PORT": node,
        "CONF_PYTHON": sys.executable,
        "HOSTING_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    suite = SHARED / "suite"
    chosen = [part for plugin in plugins for part in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", *chosen, "--tb=short", "-c"]
    command += [str(suite / "pytest.ini"), "--rootdir", str(suite)]
    command += [str(suite / "tests")]
    done = subprocess.run(
        command,
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"
    assert " 0 failed" in done.stdout
    return done.stdout
