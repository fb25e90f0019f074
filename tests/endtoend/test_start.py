"""What keeps `perdure up` from starting: one message on standard error that says what to do, an exit
code, no traceback, and nothing touched.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.crash.server import Nursery, Server
from tests.endtoend.commands import Finished
from tests.endtoend.conftest import PROGRAM

USAGE, FAILURE = 2, 1
PORTS = ("--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0")
Perdure = Callable[..., Finished]


def _refused(done: Finished, code: int, *told: str) -> None:
    assert done.code == code, done.stderr
    for each in told:
        assert each in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "Ready." not in done.stdout


def _counts_on(nursery: Nursery, data: Path, expected: int) -> None:
    """A good start on the same data still works."""
    with Server(data, PROGRAM, launch=nursery.launch) as server:
        url = f"{server.ingress_url}/Counter/a/add"
        assert httpx.post(url, json=1, trust_env=False).json() == expected
        assert server.stop() == 0


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


# ---- targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ("def f(:\n", "", ("target.py:1", "syntax")),
        ("import perdure\n\nraise ValueError('boom')\n", "", ("target.py:3", "ValueError: boom")),
        ("import nosuchmodule\n", "", ("target.py:1", "nosuchmodule")),
        ("raise SystemExit(7)\n", "", ("target.py:1", "SystemExit")),
        ("x = 1\n", "", ("holds no services", "VirtualObject")),
        ("import perdure\ns = perdure.Service('S')\n", ":wrong", ("no 'wrong' in it", "it has s")),
        ("x = 1\n", ":x", ("'x' is a int", "expected a Service")),
        (
            "import perdure\na = perdure.Service('S')\nb = perdure.Service('S')\n",
            "",
            ("two services named 'S'", "of several apps name one, FILE:NAME"),
        ),
        (
            "import restate\ns = restate.Service('S')\n",
            ":s",
            ("'s' is a restate.Service", "or an app(...) of any SDK"),
        ),
    ],
    ids=["syntax", "raises", "import", "exits", "empty", "name", "no service", "twice", "official"],
)
def test_a_broken_target_is_explained_with_its_place(
    perdure: Perdure, tmp_path: Path, content: str, name: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "target.py").write_text(content)
    done = perdure("up", f"target.py{name}", "--data", "data", *PORTS)
    _refused(done, USAGE, *told)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("missing.py", "there is no file missing.py"),
        ("no.such.module", "there is no module no.such.module"),
        ("folder/", "folder"),
    ],
)
def test_a_missing_target_is_named(
    perdure: Perdure, tmp_path: Path, target: str, told: str
) -> None:
    (tmp_path / "folder").mkdir()
    _refused(perdure("up", target, *PORTS), USAGE, told)


def test_a_handler_that_cannot_be_described_is_named(perdure: Perdure, tmp_path: Path) -> None:
    (tmp_path / "target.py").write_text(
        "import perdure\ns = perdure.Service('S')\n\n@s.handler()\nasync def h():\n    return 1\n"
    )
    _refused(perdure("up", "target.py", *PORTS), USAGE, "h", "target.py:4")


# ---- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (("--set", "ingress.bnd=x"), {}, ("'ingress.bnd'", "did you mean 'ingress.bind'?")),
        (("--set", "engine.shutdown_timeout=5"), {}, ("'5'", "'10s'")),
        (("--set", "engine.mailbox_limit=0"), {}, ("whole number from 1 up",)),
        (("--set", "nonsense"), {}, ("expects KEY=VALUE",)),
        ((), {"PERDURE_LOG__LEVEL": "loud"}, ("PERDURE_LOG__LEVEL", "debug, info")),
        ((), {"PERDURE_LOGG__LEVEL": "info"}, ("PERDURE_LOGG__LEVEL", "log.level")),
        (("--config", "missing.toml"), {}, ("missing.toml does not exist",)),
        (("--config", "broken.toml"), {}, ("broken.toml is not valid TOML", "line 1")),
        (("--config", "unknown.toml"), {}, ("'admin.bnid'", "admin.bind")),
        (("--ingress", "localhost"), {}, ("'localhost' is not an address",)),
        (("--ingress", "127.0.0.1:99999"), {}, ("'127.0.0.1:99999' is not an address",)),
        (("--ingress", "no.such.host.invalid:1"), {}, ("cannot listen on",)),
        (("--admin", "0.0.0.0:0"), {}, ("admin.token_file", "no authentication")),
    ],
)
def test_a_bad_setting_is_named_with_its_origin(
    perdure: Perdure,
    tmp_path: Path,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    told: tuple[str, ...],
) -> None:
    (tmp_path / "broken.toml").write_text("a = = 1\n")
    (tmp_path / "unknown.toml").write_text("[admin]\nbnid = 'x'\n")
    done = perdure("up", PROGRAM, "--data", "data", *PORTS, *arguments, environ=environ)
    _refused(done, USAGE, *told)


def test_a_port_in_use_is_told_with_a_way_out_and_leaves_nothing(
    perdure: Perdure, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag, other in (("--ingress", "--admin"), ("--admin", "--ingress")):
            done = perdure("up", PROGRAM, "--data", "data", flag, address, other, "127.0.0.1:0")
            _refused(done, USAGE, f"{address} is already in use", flag)
    assert not (tmp_path / "data").exists()


# ---- the data directory -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which counter `a` is at 1. Copy it."""
    data = tmp_path_factory.mktemp("good") / "data"
    _counts_on(nursery, data, 1)
    return data


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "data"))


def test_a_data_directory_in_use_names_the_process(
    perdure: Perdure, nursery: Nursery, data: Path
) -> None:
    with Server(data, PROGRAM, launch=nursery.launch) as server:
        done = perdure("up", PROGRAM, "--data", data, *PORTS)
        _refused(done, FAILURE, f"in use by process {server.pid}", "another directory")
        url = f"{server.ingress_url}/Counter/a/add"
        assert httpx.post(url, json=1, trust_env=False).json() == 2


def test_a_directory_with_other_peoples_files_is_left_alone(
    perdure: Perdure, tmp_path: Path
) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"cat")
    _refused(perdure("up", PROGRAM, "--data", foreign, *PORTS), FAILURE, "cat.jpg", "Nothing was")
    assert _files(foreign) == {"cat.jpg": b"cat"}


def test_a_file_in_place_of_the_directory_is_told(perdure: Perdure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    _refused(perdure("up", PROGRAM, "--data", "file", *PORTS), FAILURE, "found a file")


def test_a_newer_format_is_refused_untouched(perdure: Perdure, data: Path) -> None:
    text = (data / "FORMAT").read_text()
    (data / "FORMAT").write_text(text.replace('"format":1', '"format":99'))
    before = _files(data)
    _refused(perdure("up", PROGRAM, "--data", data, *PORTS), FAILURE, "format 99", "newer release")
    assert _files(data) == before


@pytest.mark.parametrize("victim", ["FORMAT", "HIGHWATER", "EPOCH"])
def test_a_missing_file_of_ours_is_named(perdure: Perdure, data: Path, victim: str) -> None:
    (data / victim).unlink()
    _refused(perdure("up", PROGRAM, "--data", data, *PORTS), FAILURE, victim)


def test_a_damaged_log_is_refused_and_accepted_once_restored(
    perdure: Perdure, nursery: Nursery, data: Path
) -> None:
    log = max((data / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    content = log.read_bytes()
    middle = len(content) // 2
    log.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    _refused(perdure("up", PROGRAM, "--data", data, *PORTS), FAILURE, "backup")
    log.write_bytes(content)
    _counts_on(nursery, data, 2)


def test_a_directory_without_permission_is_told(perdure: Perdure, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        where = Path("/proc/perdure-data")  # root may do anything but this
    else:
        (tmp_path / "shut").mkdir(mode=0o500)
        where = tmp_path / "shut" / "data"
    done = perdure("up", PROGRAM, "--data", where, *PORTS)
    _refused(done, FAILURE, "cannot be used", "may write")


# ---- a full disk ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with little room."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "perdure-test", str(path)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(directory: Path) -> Path:
    filler = directory / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    size = 1 << 20
    while size:
        try:
            os.write(fd, bytes(size))
        except OSError:
            size //= 2
    os.close(fd)
    return filler


def test_a_full_disk_refuses_work_and_takes_it_again_once_there_is_room(
    small_disk: Path, nursery: Nursery
) -> None:
    data = small_disk / "data"
    with Server(data, PROGRAM, launch=nursery.launch) as server:
        counted = 1

        def add() -> httpx.Response:
            url = f"{server.ingress_url}/Counter/a/add"
            return httpx.post(url, json=1, trust_env=False, timeout=30)

        assert add().json() == counted
        filler = _fill(small_disk)
        answer = add()
        for _ in range(5_000):
            if answer.status_code != 200:
                break
            counted += 1
            answer = add()
        assert answer.status_code in (503, 507), answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert "space" in answer.json()["message"] or "full" in answer.json()["message"]
        filler.unlink()
        give_up_at = time.monotonic() + 60
        while (answer := add()).status_code != 200:
            assert time.monotonic() < give_up_at, answer.text
            time.sleep(0.05)
        assert answer.json() == counted + 1
        server.kill()
        server.start()
        assert add().json() == counted + 2


def test_a_start_on_a_full_disk_refuses_work_until_there_is_room(
    small_disk: Path, nursery: Nursery
) -> None:
    data = small_disk / "data"
    _counts_on(nursery, data, 1)
    filler = _fill(small_disk)
    with Server(data, PROGRAM, launch=nursery.launch) as server:
        url = f"{server.ingress_url}/Counter/a/add"
        answer = httpx.post(url, json=1, trust_env=False, timeout=30)
        assert answer.status_code == 503
        assert "free some space" in answer.json()["message"]
        filler.unlink()
        server.stop()
    _counts_on(nursery, data, 2)


# ---- what a good start says --------------------------------------------------------------------------


def test_a_start_prints_what_is_served_and_where(nursery: Nursery, tmp_path: Path) -> None:
    with Server(tmp_path / "data", PROGRAM, launch=nursery.launch) as server:
        for expected in ("Counter: add, get", "Greeter:", f"{tmp_path}/data", "fsync", "µs"):
            assert expected in server.said
        for url in (f"{server.ingress_url}/restate/health", f"{server.admin_url}/health"):
            assert httpx.get(url, trust_env=False).status_code == 200


def test_logs_are_json_lines_where_asked_for(nursery: Nursery, tmp_path: Path) -> None:
    flags = ("--json",)
    with Server(tmp_path / "data", PROGRAM, flags=flags, launch=nursery.launch) as server:
        httpx.post(f"{server.ingress_url}/Greeter/stumble/send", trust_env=False)
        give_up_at = time.monotonic() + 30
        while '"target":"Greeter/stumble"' not in server.log().replace(": ", ":"):
            assert time.monotonic() < give_up_at, server.log()
            time.sleep(0.02)
        for line in server.log().splitlines():
            assert line.startswith("{"), line


# ---- the end ----------------------------------------------------------------------------------------

STUCK = """
import threading, perdure

stuck = perdure.Service("Stuck")


@stuck.handler()
def for_ever(ctx: perdure.BlockingContext) -> None:
    print("begun", flush=True)
    threading.Event().wait()
"""


def test_a_plain_handler_that_never_ends_does_not_keep_the_server(
    nursery: Nursery, tmp_path: Path
) -> None:
    program = tmp_path / "stuck.py"
    program.write_text(STUCK)
    with Server(tmp_path / "data", program, launch=nursery.launch) as server:
        url = f"{server.ingress_url}/Stuck/for_ever/send"
        assert httpx.post(url, trust_env=False).status_code == 202
        server.await_said("begun")
        assert server.stop() == 0
