"""Versions of the code in many processes: the first gateway lets one in when every partition has loaded it.

The first gateway takes the copy, asks each partition to load it, then writes the registry, which all others
follow (gateway/registry_everywhere.py). So a version is let in everywhere or nowhere: who starts later reads
the file. A version goes when no partition runs it and nothing is pinned to it anywhere.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, TypeAlias, assert_never

import msgspec

from perdure.actors.plane.remote import RemotePartition
from perdure.gateway.registry_everywhere import Follower, Leader
from perdure.gateway.settings import SettingsError
from perdure.gateway.version_host import VersionHost
from perdure.gateway.versions import NotEverywhere, Versions
from perdure.journal.errors import Indeterminate, PerdureError, StoreError

log = logging.getLogger("perdure.versions")


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load a version, so that it can be let in."""

    hash: str


class AskRunning(msgspec.Struct, frozen=True, tag=True):
    """Which versions run? ``registry``: the fingerprint of what is valid."""

    registry: bytes


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """``error``: why it can't be loaded, or ""."""

    error: str


class Running(msgspec.Struct, frozen=True, tag=True):
    """``follows``: whether what begins from now on begins as that registry says."""

    follows: bool
    hashes: list[str]


_Question: TypeAlias = Load | AskRunning
_Answer: TypeAlias = Loaded | Running
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_question: Final = msgspec.msgpack.Decoder(_Question).decode
_decode_answer: Final = msgspec.msgpack.Decoder(_Answer).decode


class PartitionVersions:
    """In a partition: answers the first gateway."""

    def __init__(self, host: VersionHost, registrar: Follower) -> None:
        self._host, self._registrar = host, registrar

    async def answer(self, request: bytes) -> bytes:
        """For the ``control`` of the data plane."""
        question = _decode_question(request)
        match question:
            case Load(hash):
                try:
                    await self._host.version(hash)
                    self._host.schedules(hash)
                except PerdureError as e:
                    return _encode(Loaded(str(e)))
                return _encode(Loaded(""))
            case AskRunning(registry):
                follows = self._registrar.follows(registry)
                return _encode(Running(follows, sorted(self._host.running())))
            case _:
                assert_never(question)


class ClusterVersions(Versions):
    """In the first gateway. ``first``: the version that the tree was started with, which stays."""

    def __init__(
        self,
        host: VersionHost,
        registrar: Leader,
        partitions: Sequence[RemotePartition],
        first: str,
    ) -> None:
        super().__init__(host)
        self._registrar = registrar
        self._leader = registrar
        self._partitions = partitions
        self._first = first

    async def begin(self, newest: str) -> None:
        """Deploy every version that is known. ``newest`` as in ``VersionHost.deploy_known``."""
        self._newest = newest
        await self.host.deploy_known(self._registrar, newest)

    async def _prepare(self, hash: str) -> None:
        """Every partition loads it, or it is let in nowhere."""
        errors = await asyncio.gather(*(self._load(each, hash) for each in self._partitions))
        away = [each for each in errors if isinstance(each, NotEverywhere)]
        for error in away or errors:
            if error is not None:
                raise error

    async def _load(
        self, partition: RemotePartition, hash: str
    ) -> SettingsError | NotEverywhere | None:
        try:
            found = _decode_answer(await partition.control(_encode(Load(hash))))
        except Indeterminate:  # and it is not asked again, as the code may have ended it
            return NotEverywhere(f"not deployed: {partition.name} ended while it loaded the code")
        except PerdureError as e:
            return NotEverywhere(
                f"not deployed, since every partition has to take the new code, and one can't: {e}"
            )
        assert isinstance(found, Loaded)
        return SettingsError(f"{partition.name}: {found.error}") if found.error else None

    async def _declare(self, hash: str) -> None:
        """The partitions do, when they follow."""

    async def _retire(self) -> None:
        """As ever, but while a partition is away all versions are kept."""
        try:
            await super()._retire()
        except PerdureError as e:  # the deployment is done all the same
            log.warning("versions with nothing to finish are kept for now: %s", e)

    async def _running(self) -> set[str]:
        """Raises StoreError where a partition is away, or does not follow yet."""
        question = _encode(AskRunning(self._leader.fingerprint()))
        asked = (each.control(question) for each in self._partitions)
        found: set[str] = set()
        for name, raw in zip(
            (each.name for each in self._partitions), await asyncio.gather(*asked), strict=True
        ):
            answer = _decode_answer(raw)
            assert isinstance(answer, Running)
            if not answer.follows:
                raise StoreError(f"{name} has not read the newest registry yet")
            found.update(answer.hashes)
        return found

    async def _sweep(self, kept: set[str]) -> None:
        """Without the start's own, which every process that starts again loads."""
        await super()._sweep(kept | {self._first})
