"""`perdure serve`: what it prints, what it refuses, both HTTP versions on one port, and how it stops."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import perdure
from perdure.gateway.serve import combined
from perdure.journal.attempt import Suspended
from perdure.journal.entries import Sleep
from perdure.journal.errors import UsageError
from perdure.journal.wire.commands import is_command_type, read_command
from perdure.journal.wire.control import read_control, start_frame
from perdure.journal.wire.frames import FrameReader
from perdure.journal.wire.versions import content_type
from tests.ports import free_ports
from tests.sdk.endpoint.peer import start_of
from tests.sdk.endpoint.program import tools
from tests.sdk.endpoint.servers import PATIENCE_S, child, served, wait_until_up
from tests.sdk.endpoint.test_violations import INPUT

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
COUNTER = ROOT / "samples" / "counter.py"
PROGRAM = HERE / "program.py"


def refused(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure", "serve", *(str(each) for each in arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=ROOT
    )
    assert "Traceback" not in done.stderr
    return done


def test_it_says_what_is_served_and_how_to_register_it(tmp_path: Path) -> None:
    with served(tmp_path, COUNTER, ROOT / "samples" / "greeter.py") as url:
        printed = (tmp_path / "serve.log").read_text()
        assert "VirtualObject  Counter: add, get\n" in printed
        assert "Service        Greeter: greet\n" in printed
        assert f'curl localhost:9070/deployments --json \'{{"uri": "{url}"}}\'\n' in printed
        assert printed.endswith("Ready.\n")


def test_http1_and_http2_share_the_port(tmp_path: Path) -> None:
    modes = {}
    headers = {"accept": "application/vnd.restate.endpointmanifest.v4+json"}
    with served(tmp_path, COUNTER) as url:
        for newer in (False, True):
            with httpx.Client(http1=not newer, http2=newer, trust_env=False) as client:
                answer = client.get(f"{url}/discover", headers=headers)
                assert answer.status_code == 200
                modes[answer.http_version] = answer.json()["protocolMode"]
    assert modes == {"HTTP/1.1": "REQUEST_RESPONSE", "HTTP/2": "BIDI_STREAM"}


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refused(COUNTER, "--port", str(port))
    assert done.returncode == 2  # as `perdure up` does
    assert f"127.0.0.1:{port} is already in use" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere.py"], "there is no file nowhere.py"),
        ([COUNTER, "--identity-key", "k"], "bad identity key 'k'"),
        ([COUNTER, "--port", "70000"], "70000"),
        ([], "TARGET"),
    ],
)
def test_what_cannot_be_served_is_told(arguments: list[str | Path], why: str) -> None:
    done = refused(*arguments)
    assert done.returncode == 2
    assert why in done.stderr


def test_other_machines_may_come_in_only_with_a_warning(tmp_path: Path) -> None:
    with served(tmp_path, COUNTER, "--host", "0.0.0.0"):
        assert "other machines that reach 0.0.0.0" in (tmp_path / "serve.log").read_text()


def test_with_an_identity_key_only_health_is_open(tmp_path: Path) -> None:
    key = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
    with served(tmp_path, COUNTER, "--identity-key", key) as url:
        assert httpx.get(f"{url}/discover", trust_env=False).status_code == 401


def test_a_handler_that_waits_is_suspended_when_the_process_is_asked_to_stop(
    tmp_path: Path,
) -> None:
    """Over HTTP/1.1, in both directions at once."""
    (port,) = free_ports(1)
    log = tmp_path / "serve.log"
    command = [sys.executable, "-m", "perdure", "serve", str(PROGRAM), "--port", str(port)]
    with child(command, log, {}) as process:
        wait_until_up(process, f"http://127.0.0.1:{port}/health", log)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            data = start_frame(start_of(tools, "holds"), 6) + INPUT
            head = f"POST /invoke/Tools/holds HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type(6)}\r\n"
            connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            stream = connection.makefile("rb")
            assert stream.readline().startswith(b"HTTP/1.1 200")
            while stream.readline() != b"\r\n":
                continue
            reader = FrameReader(1 << 20)
            (raw,) = reader.feed(_chunk(stream))
            assert is_command_type(raw.type)
            assert isinstance(read_command(raw), Sleep)
            process.send_signal(signal.SIGTERM)
            (raw,) = reader.feed(_chunk(stream))
            assert isinstance(read_control(raw, 6), Suspended)
            connection.sendall(b"0\r\n\r\n")
            assert _chunk(stream) == b""
        assert process.wait(PATIENCE_S) == 0
    assert log.read_text().endswith("Stopped.\n")


def _chunk(stream: object) -> bytes:
    size = int(stream.readline(), 16)  # type: ignore[attr-defined]
    data: bytes = stream.read(size)  # type: ignore[attr-defined]
    stream.readline()  # type: ignore[attr-defined]
    return data


def test_settings_of_several_apps_are_joined_or_refused() -> None:
    one, other = perdure.Service("One"), perdure.Service("Other")
    for each in (one, other):
        each.handler("h")(_nothing)
    first = perdure.app([one], protocol="bidi", identity_keys=["a"])
    app = combined([first, other], ("b",))
    assert list(app.services) == ["One", "Other"]
    assert (app.endpoint.protocol, app.endpoint.identity_keys) == ("bidi", ["a", "b"])
    with pytest.raises(UsageError, match="both protocols"):
        combined([first, perdure.app([other], protocol="request_response")])


async def _nothing(ctx: perdure.Context) -> None: ...
