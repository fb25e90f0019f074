"""`perdure up --reload`: starts the server again whenever a source file of its targets changes.

This process never loads the user's code: each version is loaded in a fork of it, so that nothing of an
old version is left. It holds the two ports, so that callers who come in between wait instead of being
refused. A version that can't be loaded is told, and the one before it goes on. docs/code-versions.md.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Final

import click
import msgspec

from perdure.actors.processes.hygiene import die_with_parent
from perdure.gateway import server, up, up_processes
from perdure.gateway.settings import Settings, SettingsError, SystemKind
from perdure.gateway.target_files import (
    Signature,
    changed,
    files_in,
    files_of,
    signature,
    target_paths,
)
from perdure.gateway.targets import Loaded, load_all
from perdure.journal.errors import PerdureError

_POLL_S: Final = 0.25
_MOST_NAMED: Final = 3  # changed files in a message
_DRAIN_LIMIT_MS: Final = (
    1_000  # for requests that wait; what they wait for goes on in the new version
)
_KILL_AFTER_S: Final = (
    10.0  # a handler that never lets the loop go must not keep the new version out
)
_GO: Final = b"go"
_REFUSED: Final = 1  # exit code of a trial that has told why


class Report(msgspec.Struct, frozen=True):
    """What became of loading a version. ``files`` it is made of; ``error`` "" where it can be served."""

    files: list[str]
    error: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


def run(settings: Settings, targets: list[str]) -> None:
    """Serve until SIGINT or SIGTERM. Raises SettingsError where the ports can't be had."""
    server.check_addresses(settings)
    listeners = server.listen(settings)
    try:
        _Reloader(_quick_to_drain(settings), targets, listeners).run()
    finally:
        listeners.close()


def _quick_to_drain(settings: Settings) -> Settings:
    limit = min(settings.engine.shutdown_timeout_ms, _DRAIN_LIMIT_MS)
    engine = msgspec.structs.replace(settings.engine, shutdown_timeout_ms=limit)
    return msgspec.structs.replace(settings, engine=engine)


class _Version:
    """One process that loads the targets, tells about it, and serves when it is told to."""

    def __init__(
        self,
        settings: Settings,
        targets: list[str],
        listeners: server.Listeners,
        others: list[Connection],
    ) -> None:
        self.port, theirs = multiprocessing.Pipe()
        foreign = [
            *others,
            self.port,
        ]  # a copy of these would keep the end of this process from them
        arguments = (settings, targets, listeners, theirs, foreign)
        self.process = ForkProcess(target=_load_and_serve, args=arguments, name="perdure version")
        self.process.start()
        theirs.close()

    def report(self) -> Report:
        """What it tells about loading; a process that ends without a word counts as an error."""
        try:
            return _decode(self.port.recv_bytes())
        except (EOFError, OSError):
            self.process.join()
            return Report([], f"loading the code ended the process: {self.ended()}")

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # it just died; its end is noticed as such
            self.port.send_bytes(_GO)

    def stop(self) -> None:
        """Drain, and wait for the end."""
        self.process.terminate()
        self.process.join(_KILL_AFTER_S)
        if self.process.is_alive():
            up.say("It does not stop; killed. Nothing that was acknowledged is lost.")
            self.process.kill()
        self.close()

    def close(self) -> None:
        self.process.join()
        self.port.close()

    def ended(self) -> str:
        code = self.process.exitcode or 0
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


class _Reloader:
    """Watches files, and sees to it that the newest version that can be loaded is served."""

    def __init__(self, settings: Settings, targets: list[str], listeners: server.Listeners) -> None:
        self._settings = settings
        self._targets = targets
        self._listeners = listeners
        self._serving: _Version | None = None
        self._loading: _Version | None = None
        self._files: Signature = {}
        self._is_stopping = False
        self._told = ""  # the last error, so that nobody reads it twice

    def run(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)
        self._load()
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            for version in (self._loading, self._serving):
                if version is not None:
                    version.stop()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._is_stopping = True

    def _turn(self) -> None:
        """Wait for a process to tell something, at most until it is time to look at the files."""
        loading, serving = self._loading, self._serving
        sources: list[Connection | int] = []
        if loading is not None:
            sources.append(loading.port)
        if serving is not None:
            sources.append(serving.process.sentinel)
        ready = wait(sources, _POLL_S) if sources else _pause()
        if self._is_stopping:
            return
        if serving is not None and serving.process.sentinel in ready:
            serving.close()
            self._serving = None
            up.say(f"The server ended: {serving.ended()}. Waiting for a change of the code ...")
        if loading is not None and loading.port in ready:
            self._loaded(loading)
        self._look()

    def _look(self) -> None:
        now = signature(self._files)
        found = changed(self._files, now)
        if not found:
            return
        while (later := signature(self._files)) != now and not self._is_stopping:
            now = later
            _pause()  # until whoever writes the files is through
        found = changed(self._files, now)
        self._files = now
        if not all(os.path.isdir(each) for each in found):
            self._told = ""
        names = ", ".join(os.path.relpath(each) for each in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        up.say(f"Changed: {names}{more}. Loading ...")
        self._load()

    def _load(self) -> None:
        if self._loading is not None:  # what it loads is old already
            self._loading.process.kill()
            self._loading.close()
        others = [] if self._serving is None else [self._serving.port]
        self._loading = _Version(self._settings, self._targets, self._listeners, others)

    def _loaded(self, version: _Version) -> None:
        report = version.report()
        self._loading = None
        if report.error:
            version.close()
            self._refuse(report)
            return
        self._told = ""
        self._files = self._known(report.files)
        if self._serving is not None:
            self._serving.stop()
        self._serving = version
        version.serve()

    def _refuse(self, report: Report) -> None:
        """Nothing of the new version runs. A file that it misses may come, so folders are watched, too."""
        files = {*self._files, *report.files, *target_paths(self._targets)}
        files.update([os.path.dirname(each) for each in files if not os.path.isdir(each)])
        self._files = self._known(sorted(files))
        if report.error != self._told:
            self._told = report.error
            click.echo(f"Error: {report.error}", err=True)
            up.say(
                "Waiting for a change of the code ..."
                if self._serving is None
                else "The version before goes on. Waiting for a change of the code ..."
            )

    def _known(self, files: list[str]) -> Signature:
        """As they are now, but those that were watched already as they were when last looked at."""
        return signature(files) | {path: self._files[path] for path in files if path in self._files}


def _pause() -> list[Connection | int]:
    """A moment in which nothing can happen but a signal."""
    time.sleep(_POLL_S)
    return []


# ---- in the process of a version -----------------------------------------------------------------


def _load_and_serve(
    settings: Settings,
    targets: list[str],
    listeners: server.Listeners,
    port: Connection,
    foreign: list[Connection],
) -> None:
    """All of a version's process."""
    for each in foreign:
        each.close()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)  # nothing needs care before it serves
    sys.dont_write_bytecode = True  # two changes within a second look the same in a .pyc file
    if settings.system is SystemKind.PROCESSES:
        _try_and_serve(settings, targets, listeners, port)
        return
    with contextlib.suppress(OSError):
        sys.stdin = os.fdopen(os.dup(0))  # for breakpoint(); multiprocessing took it
    loaded = _load(targets, port)
    with contextlib.suppress(EOFError, OSError):
        if loaded is not None and port.recv_bytes() == _GO:
            _serve(settings, loaded, listeners, port)


def _load(targets: list[str], port: Connection) -> Loaded | None:
    try:
        loaded = load_all(targets)
    except SettingsError as e:
        files = sorted({*files_of(targets), *files_in(e, targets)})
        report = Report(files, str(e))
        loaded = None
    else:
        report = Report(files_of(targets))
    port.send_bytes(_encode(report))
    return loaded


def _serve(
    settings: Settings, loaded: Loaded, listeners: server.Listeners, port: Connection
) -> None:
    with _told_errors():
        up.serve(settings, loaded, listeners, lifeline=port.fileno())


@contextlib.contextmanager
def _told_errors() -> Iterator[None]:
    try:
        yield
    except PerdureError as e:
        click.echo(f"Error: {e}", err=True)
        raise SystemExit(1) from e


# ---- in the process of a version that is many processes ------------------------------------------


def _try_and_serve(
    settings: Settings, targets: list[str], listeners: server.Listeners, port: Connection
) -> None:
    """This process becomes a watchdog, which loads no code of the user: it is tried in another one.

    All end with this one, and this one with its parent.
    """
    die_with_parent()
    trial = ForkProcess(target=_try, args=(targets, port), name="perdure trial")
    trial.start()
    trial.join()
    if trial.exitcode:
        _end_like(trial.exitcode)
    with contextlib.suppress(EOFError, OSError):
        if port.recv_bytes() == _GO:
            with _told_errors():
                up_processes.run(settings, targets, listeners=listeners)


def _try(targets: list[str], port: Connection) -> None:
    die_with_parent()
    if _load(targets, port) is None:
        raise SystemExit(_REFUSED)


def _end_like(exitcode: int) -> None:
    """So that whoever waits for this process hears how the code ended the trial."""
    if exitcode < 0:
        os.kill(os.getpid(), -exitcode)
    raise SystemExit(exitcode)
