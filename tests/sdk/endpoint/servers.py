"""Servers as child processes, the official one and `perdure up`, and `perdure serve`; all on 127.0.0.1.

The server is found by RESTATE_SERVER, or as `restate-server` on PATH. What npm installs under that name
is a script that starts the program in the package for this platform, which is what gets our signals.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.ports import free_ports

PATIENCE_S = 60
_POLL_S = 0.05


def find_server() -> str | None:
    given = os.environ.get("RESTATE_SERVER") or shutil.which("restate-server")
    if given is None:
        return None
    for folder in Path(given).resolve().parents:
        for name in ("@restatedev/restate-server-*/bin", "restate-server-*/bin"):
            for found in folder.glob(f"{name}/restate-server"):
                return str(found)
    return given


@contextlib.contextmanager
def child(
    command: list[str], log: Path, environ: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs until the block ends; then it is asked to stop, and killed where it does not."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **environ},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        time.sleep(_POLL_S)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def official_server(
    binary: str, folder: Path, settings: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Ingress and admin URL. ``settings``: environment variables of the server."""
    ingress, admin, node = free_ports(3)
    log = folder / "server.log"
    command = [binary, "--no-logo", "--listen-mode", "tcp", "--base-dir", str(folder / "data")]
    command += ["--node-name", "n", "--cluster-name", "c", "--bind-address", f"127.0.0.1:{node}"]
    command += ["--advertised-address", f"http://127.0.0.1:{node}/"]
    environ = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_DEFAULT_NUM_PARTITIONS": "2",
        "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "128MB",
        "RESTATE_DISABLE_TELEMETRY": "true",
        **settings,
    }
    with child(command, log, environ) as process:
        wait_until_up(process, f"http://127.0.0.1:{admin}/health", log)
        wait_until_up(process, f"http://127.0.0.1:{ingress}/restate/health", log)
        yield f"http://127.0.0.1:{ingress}", f"http://127.0.0.1:{admin}"


@contextlib.contextmanager
def perdure_server(folder: Path, settings: dict[str, str]) -> Iterator[tuple[str, str]]:
    """As ``official_server``, with Perdure in its place."""
    ingress, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
    log = folder / "server.log"
    command = [sys.executable, "-m", "perdure", "up", "--data", str(folder / "data")]
    command += ["--ingress", ingress, "--admin", admin]
    with child(command, log, settings) as process:
        wait_until_up(process, f"http://{admin}/health", log)
        yield f"http://{ingress}", f"http://{admin}"


@contextlib.contextmanager
def served(folder: Path, *arguments: str | Path) -> Iterator[str]:
    """`perdure serve` with these targets and options; the endpoint's URL."""
    (port,) = free_ports(1)
    log = folder / "serve.log"
    command = [sys.executable, "-m", "perdure", "serve", "--port", str(port)]
    with child(command + [str(each) for each in arguments], log, {}) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(process, f"{url}/health", log)
        yield url
