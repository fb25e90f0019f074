"""What keeps `perdure up --system processes` from starting: as with one process, and nobody is left over.

Every refusal is one message that says what to do, an exit code, no traceback, and a data directory as it was.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.crash.server import Nursery, Server
from tests.endtoend.commands import Finished
from tests.endtoend.conftest import PROGRAM

USAGE, FAILURE = 2, 1
MANY = ("--system", "processes", "--partitions", "2")
PORTS = ("--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0")
KEYS = "abcdefgh"  # in both partitions
Perdure = Callable[..., Finished]


def _refused(done: Finished, code: int, *told: str) -> None:
    assert done.code == code, done.stderr
    for each in told:
        assert each in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "started again" not in done.stderr
    assert done.stdout == ""


def _add(server: Server, key: str) -> httpx.Response:
    url = f"{server.ingress_url}/Counter/{key}/add"
    return httpx.post(url, json=1, trust_env=False, timeout=60)


def _counts_on(nursery: Nursery, data: Path, expected: int) -> None:
    """A good start on the same data still works."""
    with Server(data, PROGRAM, flags=MANY, launch=nursery.launch) as server:
        assert [_add(server, key).json() for key in KEYS] == [expected] * len(KEYS)
        assert server.stop() == 0


def _entries(directory: Path, without: tuple[str, ...] = ("run",)) -> dict[str, bytes | None]:
    """Files with their content, and directories, but for what is documented to change."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if path.relative_to(directory).parts[0] not in without
    }


def _processes_of(data: Path) -> list[str]:
    """Whoever was started with this directory and is still there."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if str(data).encode() in (each / "cmdline").read_bytes():
                found.append(each.name)
        except OSError:
            continue  # it has ended
    return found


@pytest.fixture(scope="module")
def good(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of two partitions in which all counters are at 1. Copy it."""
    data = tmp_path_factory.mktemp("good") / "data"
    _counts_on(nursery, data, 1)
    return data


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "data"))


def _up(perdure: Perdure, data: Path | str, *more: str, target: str | Path = PROGRAM) -> Finished:
    done = perdure("up", target, "--data", data, *MANY, *PORTS, *more)
    assert _processes_of(Path(data)) == []
    return done


# ---- nothing is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("--set", "supervisor.restart_intensty=3"),
            "did you mean 'supervisor.restart_intensity'?",
        ),
        (("--partitions", "0"), "'--partitions'"),
        (("--admin", "0.0.0.0:0"), "admin.token_file"),
        (("--ingress", "no.such.host.invalid:1"), "cannot listen on"),
    ],
)
def test_a_bad_setting_is_named_and_leaves_nothing(
    perdure: Perdure, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    _refused(_up(perdure, tmp_path / "made" / "data", *more), USAGE, told)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("flag", ["--partitions", "--gateways"])
def test_several_processes_are_asked_for_by_name(
    perdure: Perdure, tmp_path: Path, flag: str
) -> None:
    done = perdure("up", PROGRAM, "--data", tmp_path / "data", flag, "2", *PORTS)
    _refused(done, USAGE, "--system processes")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("def f(:\n", ("target.py:1", "syntax")),
        ("import perdure\n\nraise ValueError('boom')\n", ("target.py:3", "ValueError: boom")),
        ("x = 1\n", ("holds no services",)),
        (None, ("there is no file target.py",)),
    ],
    ids=["syntax", "raises", "empty", "missing"],
)
def test_a_broken_target_is_explained_and_leaves_nothing(
    perdure: Perdure, tmp_path: Path, content: str | None, told: tuple[str, ...]
) -> None:
    if content is not None:
        (tmp_path / "target.py").write_text(content)
    _refused(_up(perdure, tmp_path / "data", target="target.py"), USAGE, *told)
    assert not (tmp_path / "data").exists()


def test_a_target_that_ends_its_process_is_given_up_after_three_tries(
    perdure: Perdure, tmp_path: Path
) -> None:
    (tmp_path / "target.py").write_text("import os\n\nos._exit(7)\n")
    done = _up(perdure, tmp_path / "data", target="target.py")
    assert done.code == FAILURE
    assert done.stderr.count("everything is started again") == 2
    assert done.stderr.endswith("Error: gateway-0 failed 6 times, last: ended with exit code 7\n")
    assert not (tmp_path / "data").exists()


def test_a_broken_target_leaves_data_that_is_there_alone(
    perdure: Perdure, nursery: Nursery, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "target.py").write_text("raise ValueError('boom')\n")
    before = _entries(data)
    _refused(_up(perdure, data, target="target.py"), USAGE, "boom")
    assert _entries(data) == before
    _counts_on(nursery, data, 2)


@pytest.mark.parametrize("flag", ["--ingress", "--admin"])
def test_a_port_in_use_is_told_with_a_way_out_and_leaves_nothing(
    perdure: Perdure, tmp_path: Path, flag: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = _up(perdure, tmp_path / "data", flag, address)
    _refused(done, USAGE, f"{address} is already in use", flag)
    assert not (tmp_path / "data").exists()


# ---- whose directory it is ---------------------------------------------------------------------------


def test_a_data_directory_in_use_names_the_process(
    perdure: Perdure, nursery: Nursery, data: Path
) -> None:
    with Server(data, PROGRAM, flags=MANY, launch=nursery.launch) as server:
        done = perdure("up", PROGRAM, "--data", data, *MANY, *PORTS)
        _refused(done, FAILURE, f"in use by process {server.pid}", "another directory")
        assert _add(server, "a").json() == 2


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_directory_with_other_peoples_files_is_left_alone(
    perdure: Perdure, tmp_path: Path, count: str
) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"cat")
    done = _up(perdure, foreign, "--partitions", count)
    _refused(done, FAILURE, "cat.jpg", "Nothing was touched")
    assert _entries(foreign, without=()) == {"cat.jpg": b"cat"}


def test_a_file_in_place_of_the_directory_is_told(perdure: Perdure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    _refused(_up(perdure, tmp_path / "file"), FAILURE, "found a file")


def test_a_directory_without_permission_is_told(perdure: Perdure, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        where = Path("/proc/perdure-data")  # root may do anything but this
    else:
        (tmp_path / "shut").mkdir(mode=0o500)
        where = tmp_path / "shut" / "data"
    _refused(_up(perdure, where), FAILURE, "cannot be used", "may write")


# ---- what is in it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("victim", "content", "told"),
    [
        ("partition-001/FORMAT", None, "FORMAT"),
        ("partition-001/HIGHWATER", None, "HIGHWATER is missing"),
        ("partition-001/EPOCH", None, "EPOCH is missing"),
        ("partition-001/FORMAT", b"{", "FORMAT cannot be read"),
        ("partition-000/EPOCH", b"{", "EPOCH cannot be read"),
        ("partition-001/FORMAT", b'{"format":99}', "newer release"),
        ("PARTITIONS", None, "PARTITIONS is missing"),
        ("PARTITIONS", b"{", "PARTITIONS cannot be read"),
        ("partition-001/db/CURRENT", b"nothing", "CURRENT"),
    ],
)
def test_a_file_of_a_store_that_is_not_what_it_was_is_named_and_nothing_is_changed(
    perdure: Perdure, data: Path, victim: str, content: bytes | None, told: str
) -> None:
    if content is None:
        (data / victim).unlink()
    else:
        (data / victim).write_bytes(content)
    before = _entries(data)
    _refused(_up(perdure, data), FAILURE, told, str(data))
    assert _entries(data) == before


def test_a_damaged_log_is_refused_and_accepted_once_restored(
    perdure: Perdure, nursery: Nursery, data: Path
) -> None:
    logs = (data / "partition-001" / "db").glob("*.log")
    log = max(logs, key=lambda file: file.stat().st_size)
    content = log.read_bytes()
    middle = len(content) // 2
    log.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    _refused(_up(perdure, data), FAILURE, "partition-001", "backup")
    log.write_bytes(content)
    _counts_on(nursery, data, 2)


# ---- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with little room."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=260m", "perdure-test", str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(directory: Path) -> Path:
    filler = directory / "filler"
    size = 1 << 20
    with filler.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


def test_a_start_on_a_full_disk_refuses_work_until_there_is_room(
    small_disk: Path, nursery: Nursery
) -> None:
    data = small_disk / "data"
    _counts_on(nursery, data, 1)
    filler = _fill(small_disk)
    with Server(data, PROGRAM, flags=MANY, launch=nursery.launch) as server:
        answers = {key: _add(server, key) for key in KEYS}
        refused = [key for key in KEYS if answers[key].status_code != 200]
        assert refused  # one partition may go on with the room that the other one had set aside
        for key in refused:
            assert answers[key].status_code == 503
            assert "free some space" in answers[key].json()["message"]
        filler.unlink()
        server.stop()
    with Server(data, PROGRAM, flags=MANY, launch=nursery.launch) as server:
        for key in KEYS:
            assert _add(server, key).json() == (2 if key in refused else 3)


def test_a_first_start_on_a_full_disk_is_refused(small_disk: Path, perdure: Perdure) -> None:
    _fill(small_disk)
    _refused(_up(perdure, small_disk / "data"), FAILURE, "No space left on device")


def test_a_thousand_services_start_and_are_named_in_part(nursery: Nursery, tmp_path: Path) -> None:
    """All their names together are larger than what processes tell each other at a start."""
    program = tmp_path / "many.py"
    program.write_text(
        "import perdure\n"
        "async def handler(ctx: perdure.Context) -> str:\n"
        "    return 'here'\n"
        "services = []\n"
        "for number in range(1000):\n"
        "    service = perdure.Service(f'Service{number:04}')\n"
        "    for name in ('approve_what_was_asked', 'refuse_what_was_asked', 'remind_whoever_asked'):\n"
        "        service.handler(name=name)(handler)\n"
        "    services.append(service)\n"
        "app = perdure.app(services)\n"
    )
    flags = (*MANY, "--gateways", "2")
    with Server(tmp_path / "data", str(program), flags=flags, launch=nursery.launch) as server:
        url = f"{server.ingress_url}/Service0999/approve_what_was_asked"
        assert httpx.post(url, trust_env=False, timeout=60).json() == "here"
        assert server.stop() == 0
