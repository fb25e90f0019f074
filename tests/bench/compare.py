"""The shared comparison with contenders of our own. By hand, not part of the suite:

    python tests/bench/compare.py --home CACHE --only restate-py,perdure-remote,perdure-asgi

`perdure-processes`: two partitions and one gateway, each a process of its own.
`perdure-remote`: `perdure up` drives the same hypercorn deployment as the official server does.
`perdure-asgi-processes`: the hosted app, two partitions and one gateway.
`perdure-asgi`: `perdure up` hosts the same app, on the official SDK, in its own process.
All other arguments are those of ../shared/bench/compare.py, beside the checkout.
"""

import importlib.util
import os
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("perdure-remote", "perdure-asgi", "perdure-processes", "perdure-asgi-processes")
_PROCESSES = "--system processes --partitions 2 --gateways 1"
BENCH = Path(__file__).resolve().parents[3] / "shared" / "bench"


def load() -> ModuleType:
    if not (BENCH / "compare.py").exists():
        sys.exit(f"there is no {BENCH}: the comparison lies beside the checkout")
    spec = importlib.util.spec_from_file_location("shared_compare", BENCH / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare: Any = load()
shared_start = compare.start


def start(name: str, home: Path, work: Path, perdure: str) -> Any:
    """One contender, started; ours, or one of the shared script."""
    if name not in OURS:
        return shared_start(name, home, work, perdure)
    contender = compare.Contender(name, work)
    ingress, admin = contender.ingress, contender.admin
    service = BENCH / "service.py"
    target, environ = "", {}
    if "asgi" in name:
        target = f"{service}:app"
    elif name == "perdure-processes":
        target, environ = str(service), {"PERDURE": "1"}
    more = _PROCESSES if name.endswith("processes") else ""
    command = perdure.format(
        service=target, data=contender.work / "data", ingress=ingress, admin=admin
    )
    contender.start(shlex.split(f"{command} {more}"), f"http://127.0.0.1:{admin}/health", environ)
    if name == "perdure-remote":
        port = compare.free_port()
        hypercorn = [str(home / "venv/bin/hypercorn"), "--worker-class", "uvloop"]
        contender.start(
            [*hypercorn, "--bind", f"127.0.0.1:{port}", "service:app"],
            f"http://127.0.0.1:{port}/health",
            {"PYTHONPATH": str(BENCH)},
        )
        compare.post(f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{port}"})
    return contender


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    compare.start = start
    compare.main()
