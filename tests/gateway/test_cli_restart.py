"""`perdure invocations`: resume elsewhere, restart, forget journals."""

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from perdure.gateway.cli import main
from perdure.journal.requests import At, Op, OpResult, Restarted, Which
from tests.gateway.runtime import MemoryRuntime
from tests.gateway.test_cli import background

ID = "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"
OTHER_ID = "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"
DEPLOYMENT = "dp_11nGQpCRmau6ypL82KH2TnP"

Run = Callable[..., Result]


@pytest.fixture
def runtime() -> MemoryRuntime:
    return MemoryRuntime()


@pytest.fixture
def run(runtime: MemoryRuntime) -> Iterator[Run]:
    with background(runtime) as on:
        env = {"PERDURE_ADMIN_URL": on.gateway.admin_url}
        yield lambda *arguments: CliRunner().invoke(main, ["invocations", *arguments], env=env)


def test_resume_takes_a_deployment(run: Run, runtime: MemoryRuntime) -> None:
    runtime.operation_results[ID] = OpResult.DONE
    assert run("resume", ID).exit_code == 0
    result = run("resume", ID, "--deployment", DEPLOYMENT)
    assert result.output == f"{ID} is resumed\n"
    assert runtime.choices == [Which.KEEP, At(DEPLOYMENT)]


def test_restart_tells_the_new_invocation(run: Run, runtime: MemoryRuntime) -> None:
    runtime.restart_results[ID] = Restarted(OTHER_ID)
    result = run("restart", ID)
    assert (result.exit_code, result.output) == (0, f"{ID} is restarted as {OTHER_ID}\n")
    result = run("restart", ID, "--from", "3", "--deployment", "keep", "--json")
    (outcome,) = json.loads(result.output)
    assert outcome == {"id": ID, "status": 200, "ok": True, "new_invocation_id": OTHER_ID}
    assert runtime.restarts == [(ID, 0, Which.LATEST, ()), (ID, 3, Which.KEEP, ())]


def test_a_refused_restart_is_told(run: Run, runtime: MemoryRuntime) -> None:
    runtime.restart_results[ID] = OpResult.NOT_COMPLETED
    result = run("restart", ID)
    assert result.exit_code == 1
    assert f"The invocation '{ID}' is still running." in result.output
    assert run("restart", OTHER_ID).exit_code == 4


def test_a_journal_is_forgotten(run: Run, runtime: MemoryRuntime) -> None:
    runtime.operation_results[ID] = OpResult.DONE
    assert run("purge-journal", ID).exit_code == 0
    assert runtime.operations == [(ID, Op.PURGE_JOURNAL)]
