"""Would the invocations that are stored go on with new code? One rehearsal each, no effect, a verdict each.

Knows nothing of servers, directories or output: gateway/check_sources.py, gateway/cli_check.py.
"""

import asyncio
import inspect
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from perdure.definition import Definition
from perdure.endpoint import Codec
from perdure.entry_codec import JournalValueCodec
from perdure.gateway import stored
from perdure.journal.recording import Recording
from perdure.rehearsal import How, rehearse

MOST_FINDINGS: Final = 1_000  # kept for each handler; the rest is counted
DEFAULT_TIMEOUT_S: Final = 10.0


class Verdict(StrEnum):
    """What the new code makes of one invocation."""

    GOES_ON = "goes-on"
    MISMATCH = "mismatch"  # replay diverges from the journal
    VANISHED = "vanished"  # there is no such handler any more
    RAISES = "raises"  # what is no answer, and it did not before
    STUCK = (
        "stuck"  # no end in time: it waits for, or computes, something that replay does not give
    )
    STILL_FAILS = "still-fails"  # raises, as it already does
    ELSEWHERE = "elsewhere"  # its handler runs in another deployment
    PURGED = "purged"  # nothing is left to replay


BREAKS: Final = frozenset({Verdict.MISMATCH, Verdict.VANISHED, Verdict.RAISES, Verdict.STUCK})
_UNSEEN: Final = frozenset({Verdict.ELSEWHERE, Verdict.PURGED})


class Candidate(msgspec.Struct, frozen=True):
    """An invocation to check. ``is_elsewhere``: it runs, or will run, in a deployment that is not made of
    this SDK's handlers in the server's process."""

    recording: Recording
    is_completed: bool = False
    is_elsewhere: bool = False


class Finding(msgspec.Struct, frozen=True):
    """``text``: why; for a mismatch the recorded and the issued command. ``where``: file and line."""

    id: str
    target: str
    verdict: Verdict
    text: str = ""
    where: str = ""


class HandlerReport(msgspec.Struct):
    """All invocations of one handler. ``findings``: those worth a line, of which some may be left out."""

    handler: str
    checked: int = 0
    breaking: int = 0
    findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        self.checked += 1
        self.breaking += finding.verdict in BREAKS
        is_worth_it = finding.verdict is not Verdict.GOES_ON
        if is_worth_it and len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)


class Report(msgspec.Struct):
    """``handlers`` by `Service/handler`. Those ``elsewhere`` and ``purged`` were not checked."""

    handlers: dict[str, HandlerReport] = {}
    elsewhere: int = 0
    purged: int = 0

    @property
    def checked(self) -> int:
        return sum(each.checked for each in self.handlers.values())

    @property
    def breaking(self) -> int:
        return sum(each.breaking for each in self.handlers.values())

    def add(self, name: str, finding: Finding) -> None:
        self.elsewhere += finding.verdict is Verdict.ELSEWHERE
        self.purged += finding.verdict is Verdict.PURGED
        if finding.verdict not in _UNSEEN:
            self.handlers.setdefault(name, HandlerReport(name)).add(finding)


class Code:
    """The code to check: its services, with the codec of their apps. Used in one running loop."""

    def __init__(self, definitions: Iterable[Definition], codec: Codec | None) -> None:
        self._definitions = {each.name: each for each in definitions}
        self._codec_source = codec
        self._codec: JournalValueCodec | None = None

    async def report(
        self, candidates: Iterable[Candidate], timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Report:
        """Rehearse one after the other."""
        report = Report()
        for each in candidates:
            finding = await self.check(each, timeout_s)
            report.add(f"{each.recording.service}/{each.recording.handler}", finding)
        return report

    async def check(self, candidate: Candidate, timeout_s: float = DEFAULT_TIMEOUT_S) -> Finding:
        """Rehearse one invocation. ``timeout_s`` ends a handler that waits for what replay does not give."""
        found = candidate.recording
        middle = "" if found.key is None else f"/{found.key}"
        target = f"{found.service}{middle}/{found.handler}"
        if candidate.is_elsewhere:
            return Finding(found.id, target, Verdict.ELSEWHERE)
        definition = self._definitions.get(found.service)
        if definition is None or found.handler not in definition.handlers:
            if candidate.is_completed:  # nothing has to go on
                return Finding(found.id, target, Verdict.ELSEWHERE)
            return Finding(found.id, target, Verdict.VANISHED, self._vanished(found, definition))
        if not found.entries:
            return Finding(found.id, target, Verdict.PURGED)
        verdict, text, where = await self._rehearse(candidate, definition, timeout_s)
        return Finding(found.id, target, verdict, text, where)

    def _vanished(self, found: Recording, definition: Definition | None) -> str:
        if definition is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            return f"no TARGET has a service '{found.service}'; they have: {known}"
        known = ", ".join(definition.handlers)
        return f"service '{found.service}' has no handler '{found.handler}', only {known}"

    async def _rehearse(
        self, candidate: Candidate, definition: Definition, timeout_s: float
    ) -> tuple[Verdict, str, str]:
        found = candidate.recording
        state = dict(stored.state_then(found).values)
        start = stored.start_of(found, definition, found.entries, state)
        handler = definition.handlers[found.handler]
        codec = await self._made_codec()
        try:
            async with asyncio.timeout(timeout_s):
                ended = await rehearse(start, handler, codec=codec)
        except TimeoutError:
            return Verdict.STUCK, f"the handler did not end within {timeout_s:g} s", ""
        match ended.how:
            case How.MISMATCH:
                return Verdict.MISMATCH, ended.text, ended.where
            case How.RAISED if found.retry_count:
                return Verdict.STILL_FAILS, ended.text, ended.where
            case How.RAISED:
                return Verdict.RAISES, ended.text, ended.where
            case _:
                return Verdict.GOES_ON, ended.text, ended.where

    async def _made_codec(self) -> JournalValueCodec | None:
        source = self._codec_source
        if self._codec is None and source is not None:
            if isinstance(source, JournalValueCodec):
                self._codec = source
            else:
                made = source()
                self._codec = await made if inspect.isawaitable(made) else made
        return self._codec
