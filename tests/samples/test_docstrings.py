"""The curl lines in the heads of the samples work as they stand, against `perdure up` on free ports."""

import ast
import json
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import samples

FOLDER = Path(next(iter(samples.__path__)))
SERVED = (
    *("approval", "counter", "fan_out", "greeter", "nightly_report"),
    *("orders", "reminder", "signup", "trip"),
)
WRITTEN_ADDRESS = "localhost:8080"
_LONGEST_S = 60.0

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


class Server:
    """`perdure up` of one sample. It is killed after a while, so that no read waits for ever."""

    def __init__(self, sample: str, folder: Path) -> None:
        free = "127.0.0.1:0"
        self._errors = folder / "errors"
        with self._errors.open("a") as errors:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "perdure", "up", str(FOLDER / f"{sample}.py")),
                    *("--data", str(folder / "data"), "--ingress", free, "--admin", free),
                ],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        self._watch = threading.Timer(_LONGEST_S, self.process.kill)
        self._watch.start()
        self.address = self.line_with("Ingress").split("//")[1].strip("/\n")
        self.line_with("Ready.")

    def line_with(self, text: str) -> str:
        """The next line of its output that begins so."""
        output = self.process.stdout
        assert output is not None
        return _next_line(output, text, self._errors)

    def end(self, signum: signal.Signals) -> int:
        """Signal it, and wait; the exit code. Nothing to do where it has ended."""
        self.process.send_signal(signum)
        with self.process:  # reads what is left, closes, waits
            code = self.process.wait()
        self._watch.cancel()
        return code

    def curl(self, line: str) -> bytes:
        """Carry out a line as it is written, but for the address."""
        _, *args = shlex.split(line.replace(WRITTEN_ADDRESS, self.address), comments=True)
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", *args],
            capture_output=True,
            timeout=_LONGEST_S,
            check=True,
        )
        return done.stdout


def _next_line(output: IO[str], text: str, errors: Path) -> str:
    for line in output:
        if line.startswith(text):
            return line
    raise AssertionError(f"the server ended before it wrote {text!r}: {errors.read_text()}")


@contextmanager
def serving(sample: str, folder: Path) -> Iterator[Server]:
    server = Server(sample, folder)
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


def curl_lines(sample: str) -> list[tuple[str, str]]:
    """The curl lines of a head, and the answer after each, or below it, in a comment; may be empty."""
    head = ast.get_docstring(ast.parse((FOLDER / f"{sample}.py").read_text(encoding="utf-8")))
    assert head is not None
    assert f"perdure up samples/{sample}.py" in head
    found: list[tuple[str, str]] = []
    for line in map(str.strip, head.splitlines()):
        if line.startswith("curl "):
            found.append((line, line.partition(" # ")[2].strip()))
        elif line.startswith("# "):
            found[-1] = (found[-1][0], line[2:])
    return found


def test_every_sample_is_here() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")}
    assert files == {*SERVED, "make_orders"}


@pytest.mark.parametrize("sample", [each for each in SERVED if each != "orders"])
def test_a_sample_is_short(sample: str) -> None:
    assert len((FOLDER / f"{sample}.py").read_text(encoding="utf-8").splitlines()) < 60


@needs_curl
@pytest.mark.parametrize("sample", SERVED)
def test_the_curl_lines_in_the_head_answer_what_they_say(sample: str, tmp_path: Path) -> None:
    lines = curl_lines(sample)
    assert len(lines) >= 1
    with serving(sample, tmp_path) as server:
        for line, answer in lines:
            if "/ID/" in line:  # it stands for what the server prints
                line = server.line_with("curl ")
            answered = server.curl(line)
            if answer:
                assert json.loads(answered) == json.loads(answer), line
        assert server.end(signal.SIGTERM) == 0


@needs_curl
def test_the_counter_goes_on_after_kill_9(tmp_path: Path) -> None:
    first, second, *_ = curl_lines("counter")
    with serving("counter", tmp_path) as server:
        assert server.curl(first[0]) == b"1"
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    with serving("counter", tmp_path) as server:
        assert server.curl(second[0]) == b"3"
