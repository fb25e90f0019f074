"""One nursery for the folder, and a server for each file that asks for one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.server import Nursery, Server
from tests.endtoend.commands import Finished, run

PROGRAM = Path(__file__).parent / "program.py"


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture(scope="module")
def server(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves program.py with small limits."""
    path = tmp_path_factory.mktemp("served") / "data"
    flags = ("--set", "ingress.request_size_limit=64KiB")
    with Server(path, PROGRAM, flags=flags, launch=nursery.launch) as made:
        yield made


@pytest.fixture
def ingress(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.ingress_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def perdure(nursery: Nursery, tmp_path: Path) -> Callable[..., Finished]:
    """`perdure(arguments ...)` in an empty directory."""

    def call(*arguments: str | Path, **how: Any) -> Finished:
        return run(nursery.launch, tmp_path, *arguments, **how)

    return call
