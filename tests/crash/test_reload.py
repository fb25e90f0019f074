"""`perdure up --reload`: the code changes under running invocations, and callers hardly notice."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.server import Server

PROGRAM = """
import perdure
from texts import greeting

greeter = perdure.Service("Greeter")
flow = perdure.Workflow("Flow")


@greeter.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return greeting(name)


@flow.main()
async def run(ctx: perdure.WorkflowContext) -> str:
    await ctx.run_typed("first", lambda: "done")
    told = await ctx.promise("told", type_hint=str)
    return f"{told}, said version 1"


@flow.handler()
async def tell(ctx: perdure.WorkflowSharedContext, text: str) -> None:
    await ctx.promise("told", type_hint=str).resolve(text)
"""
TEXTS = "def greeting(name: str) -> str:\n    return f'Hello, {name}!'\n"


class Project:
    """A program of two files, served with --reload."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.program, self.texts = folder / "program.py", folder / "texts.py"
        self.program.write_text(PROGRAM)
        self.texts.write_text(TEXTS)
        self.server = Server(folder / "data", self.program, flags=("--reload", *flags))

    def __enter__(self) -> "Project":
        self.server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.__exit__(*error)

    def change(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        changed = file.with_suffix(".new")
        changed.write_text(text.replace(old, new))
        changed.replace(file)  # as editors do

    def call(self, path: str, body: object = None) -> Any:
        response = httpx.post(f"{self.server.ingress_url}/{path}", json=body, timeout=60)
        assert response.is_success, response.text
        return response.json()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_change_is_served_at_the_same_ports_with_the_same_data(project: Project) -> None:
    with project:
        sent = project.call("Flow/one/run/send")
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"
        pid = project.server.pid
        project.change(project.program, "said version 1", "said version 2")
        project.server.await_said("Ready.\n", 2)
        assert project.server.said.count(project.server.ingress_url) == 2
        assert "Changed: " in project.server.said
        assert project.server.pid == pid
        httpx.post(f"{project.server.ingress_url}/Flow/one/tell", json="yes").raise_for_status()
        url = f"{project.server.ingress_url}/restate/invocation/{sent['invocationId']}/attach"
        assert httpx.get(url, timeout=60).json() == "yes, said version 2"


def test_a_module_that_the_target_imported_is_watched_too(project: Project) -> None:
    with project:
        project.change(project.texts, "Hello", "Moin")
        project.server.await_said("Ready.\n", 2)
        assert project.call("Greeter/greet", "Ada") == "Moin, Ada!"


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("program.py", "@greeter.handler()", "@greeter.handler(", "program.py:"),
        ("program.py", "from texts", "from missing", "program.py:3: ModuleNotFoundError"),
        ("texts.py", "def greeting", "1 / 0\ndef greeting", "texts.py:1: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_told_with_its_line_and_the_version_before_goes_on(
    project: Project, file: str, old: str, new: str, line: str
) -> None:
    with project:
        path = project.program.with_name(file)
        project.change(path, old, new)
        project.server.await_said("The version before goes on.")
        assert "can't be loaded" in project.server.log()
        assert line in project.server.log()
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"
        project.texts.write_text(TEXTS.replace("Hello", "Hello again"))
        project.program.write_text(PROGRAM)
        project.server.await_said("Ready.\n", 2)
        assert project.call("Greeter/greet", "Ada") == "Hello again, Ada!"


def test_a_missing_module_is_noticed_when_it_comes(project: Project) -> None:
    project.texts.unlink()
    server = project.server
    try:
        server.launch()
        server.await_said("Waiting for a change of the code ...")
        project.texts.write_text(TEXTS)
        server.await_ready()
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"
    finally:
        server.close()


def test_code_that_diverges_is_told_as_a_mismatch_and_the_change_back_heals_it(
    project: Project,
) -> None:
    with project:
        sent = project.call("Flow/one/run/send")
        url = f"{project.server.admin_url}/invocations/{sent['invocationId']}"

        def journal_reaches_the_promise(info: Any) -> bool:
            return "promise" in json.dumps(info)

        await_info(f"{url}/journal", journal_reaches_the_promise)
        project.change(project.program, '"first"', '"second"')
        project.server.await_said("Ready.\n", 2)
        info = await_info(url, lambda info: "mismatch" in json.dumps(info))
        assert "recorded: run 'first'" in json.dumps(info)
        assert "program.py:" in json.dumps(info)
        project.change(project.program, '"second"', '"first"')
        project.server.await_said("Ready.\n", 3)
        httpx.post(f"{project.server.ingress_url}/Flow/one/tell", json="fine").raise_for_status()
        attach = f"{project.server.ingress_url}/restate/workflow/Flow/one/attach"
        assert httpx.get(attach, timeout=60).json() == "fine, said version 1"


def await_info(url: str, is_there: Callable[[Any], bool]) -> Any:
    """The answer of an admin operation, as soon as it says so."""
    while True:
        info = httpx.get(url).raise_for_status().json()
        if is_there(info):
            return info


def _change_under_calls(project: Project) -> None:
    """Somebody calls all the time while the code is changed, and every call is answered."""
    answers: list[str] = []
    is_over = threading.Event()
    errors: list[BaseException] = []

    def call_again_and_again() -> None:
        try:
            while not is_over.is_set():
                answers.append(project.call("Greeter/greet", "Ada"))
        except BaseException as e:
            errors.append(e)

    caller = threading.Thread(target=call_again_and_again)
    caller.start()
    project.change(project.texts, "Hello", "Moin")
    project.server.await_said("Ready.\n", 2)
    assert project.call("Greeter/greet", "Eve") == "Moin, Eve!"
    is_over.set()
    caller.join()
    assert not errors, errors
    assert set(answers) <= {"Hello, Ada!", "Moin, Ada!"}


def test_callers_who_come_while_it_restarts_wait_instead_of_being_refused(
    project: Project,
) -> None:
    with project:
        _change_under_calls(project)


def test_no_process_is_left_when_the_watching_one_is_killed(project: Project) -> None:
    with project as on:
        on.server.kill()  # the output ends when the last process that holds it does
        on.server.start()
        assert on.call("Greeter/greet", "Ada") == "Hello, Ada!"
        assert on.server.stop() == 0


def test_a_server_that_dies_is_started_again_by_the_next_change(project: Project) -> None:
    with project:
        children = Path(f"/proc/{project.server.pid}/task/{project.server.pid}/children")
        (child,) = children.read_text().split()
        os.kill(int(child), signal.SIGKILL)
        project.server.await_said("The server ended: signal SIGKILL.")
        project.change(project.texts, "Hello", "Moin")
        project.server.await_said("Ready.\n", 2)
        assert project.call("Greeter/greet", "Ada") == "Moin, Ada!"


MANY = ("--system", "processes", "--partitions", "2", "--gateways", "2")


def test_a_tree_of_processes_is_replaced_by_the_new_code_while_callers_wait(tmp_path: Path) -> None:
    with Project(tmp_path, *MANY) as project:
        for key in ("one", "two", "three"):
            project.call(f"Flow/{key}/run/send")
        urls = project.server.ingress_url, project.server.admin_url
        _change_under_calls(project)
        assert all(project.server.said.count(url) == 2 for url in urls)
        for key in ("one", "two", "three"):
            tell = f"{project.server.ingress_url}/Flow/{key}/tell"
            httpx.post(tell, json="yes", timeout=60).raise_for_status()
            attach = f"{project.server.ingress_url}/restate/workflow/Flow/{key}/attach"
            assert httpx.get(attach, timeout=60).json() == "yes, said version 1"
        assert project.server.stop() == 0


@pytest.mark.parametrize("new", ["1 / 0\ndef greeting", "import os; os._exit(7)\ndef greeting"])
def test_a_tree_goes_on_beside_code_that_cannot_be_loaded(tmp_path: Path, new: str) -> None:
    with Project(tmp_path, *MANY) as project:
        tree = httpx.get(f"{project.server.admin_url}/tree").json()["processes"]
        project.change(project.texts, "def greeting", new)
        project.server.await_said("The version before goes on.")
        told = "exit code 7" if "_exit" in new else "texts.py:1: ZeroDivisionError"
        assert told in project.server.log()
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"
        now = httpx.get(f"{project.server.admin_url}/tree").json()["processes"]
        assert now["watchdog_pid"] == tree["watchdog_pid"]
        assert project.server.pid != tree["watchdog_pid"]
        project.change(project.texts, new, "def greeting")
        project.server.await_said("Ready.\n", 2)
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"


def test_nothing_of_a_tree_is_left_when_the_watching_process_is_killed(tmp_path: Path) -> None:
    with Project(tmp_path, *MANY) as project:
        project.server.kill()  # the output ends when the last process that holds it does
        project.server.start()
        assert project.call("Greeter/greet", "Ada") == "Hello, Ada!"
