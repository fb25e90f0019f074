"""The admin API's operations on invocations, one at a time and in batches. HTTP to ``Runtime`` and back.

What became of an operation is put into words in gateway/admin_operations.py. Rules: admin 6 and 7.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from perdure.gateway.admin_answers import bad_query, error, json_answer, json_of, misshapen
from perdure.gateway.admin_operations import (
    RESTART,
    batch_error,
    operation_answer,
    restart_refusal,
)
from perdure.gateway.deployment_ids import id_fault
from perdure.gateway.deployments import Registrar
from perdure.journal.errors import BadId
from perdure.journal.ids import parse_invocation_id
from perdure.journal.requests import (
    At,
    DeploymentChoice,
    Edits,
    Incompatible,
    Op,
    OpResult,
    Restarted,
    Runtime,
    Which,
)

_Operation = Callable[..., Awaitable[web.Response]]
_DELETE_MODES: Final = {"cancel": Op.CANCEL, "kill": Op.KILL, "purge": Op.PURGE}
_WORDS: Final = {
    "keep": Which.KEEP, "Keep": Which.KEEP, "latest": Which.LATEST, "Latest": Which.LATEST
}  # fmt: skip
_MOST_IN_A_BATCH: Final = 1000
_MOST_DIGITS: Final = 10  # of a journal index, which is a u32


class BatchBody(msgspec.Struct, frozen=True):
    """``deployment`` counts for resume and restart-as-new."""

    invocation_ids: list[str]
    deployment: str | None = None


class ForkEdit(msgspec.Struct, frozen=True):
    """``value``: base64 of the bytes to put in the place of the entry's value."""

    index: int
    value: str


class ForkBody(msgspec.Struct, frozen=True, rename={"from_index": "from"}):
    """Ours: a restart from an edited journal prefix."""

    from_index: int = 0
    edits: list[ForkEdit] = []
    deployment: str | None = None


class FailedOperation(msgspec.Struct, frozen=True):
    invocation_id: str
    error: str


class RestartedInvocation(msgspec.Struct, frozen=True):
    old_invocation_id: str
    new_invocation_id: str


class BatchAnswer(msgspec.Struct, frozen=True):
    """``succeeded``: ids, or pairs of them for restart-as-new."""

    succeeded: list[str | RestartedInvocation]
    failed: list[FailedOperation]


class NewInvocation(msgspec.Struct, frozen=True):
    new_invocation_id: str


class InvocationOperations:
    """``registrar`` None: every deployment goes by the id that the engine knows."""

    def __init__(
        self, runtime: Runtime, registrar: Registrar | None, size_limit_bytes: int
    ) -> None:
        self._runtime = runtime
        self._registrar = registrar
        self._size_limit_bytes = size_limit_bytes
        self.operations: dict[str, _Operation] = {
            "operate": self._operate,
            "restart_as_new": self._restart,
            "fork": self._fork,
            "delete_invocation": self._delete,
            "batch": self._batch,
        }

    async def _operate(
        self, request: web.BaseRequest, invocation_id: str, verb: str
    ) -> web.Response:
        op = Op(verb)
        given = request.rel_url.query.get("deployment") if op is Op.RESUME else None
        try:
            choice = self._chosen(given, Which.KEEP)
        except BadId as e:
            return _bad_choice(e)
        result = await self._runtime.operate(invocation_id, op, choice)
        status, message = operation_answer(op, result, invocation_id)
        return error(status, message) if message else web.Response(status=status)

    async def _restart(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        try:
            choice = self._chosen(request.rel_url.query.get("deployment"), Which.LATEST)
        except BadId as e:
            return _bad_choice(e)
        given = request.rel_url.query.get("from", "0")
        if not (given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS):
            return bad_query(f"from: expected a journal index from 0 up, found '{given}'")
        return await self._restarted(invocation_id, int(given), choice, ())

    async def _fork(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, ForkBody)
        if isinstance(body, web.Response):
            return body
        try:
            choice = self._chosen(body.deployment, Which.LATEST)
        except BadId as e:
            return misshapen(f"deployment: {e}")
        edits: list[tuple[int, bytes]] = []
        for each in body.edits:
            try:
                edits.append((each.index, base64.b64decode(each.value, validate=True)))
            except (binascii.Error, ValueError) as e:
                return misshapen(f"the value of the edit of entry {each.index} is no base64: {e}")
        return await self._restarted(invocation_id, body.from_index, choice, tuple(edits))

    async def _restarted(
        self, invocation_id: str, from_index: int, choice: DeploymentChoice, edits: Edits
    ) -> web.Response:
        result = await self._runtime.restart(invocation_id, from_index, choice, edits)
        if isinstance(result, Restarted):
            return json_answer(NewInvocation(result.invocation_id))
        return error(*restart_refusal(result, invocation_id))

    async def _delete(self, request: web.BaseRequest, invocation_id: str) -> web.Response:
        """Deprecated: accepted whatever becomes of it (admin 6.3)."""
        mode = request.rel_url.query.get("mode", "cancel")
        op = _DELETE_MODES.get(mode.lower())
        if op is None:
            return bad_query(f"mode: expected cancel, kill or purge, found '{mode}'")
        await self._runtime.operate(invocation_id, op)
        return web.Response(status=202)

    # ---- batches

    async def _batch(self, request: web.BaseRequest, verb: str) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, BatchBody)
        if isinstance(body, web.Response):
            return body
        try:
            for each in body.invocation_ids:
                parse_invocation_id(each)
            choice = self._chosen(body.deployment, Which.LATEST if verb == RESTART else Which.KEEP)
        except BadId as e:
            return misshapen(str(e))
        size = len(body.invocation_ids)
        if size > _MOST_IN_A_BATCH:
            return error(
                400, f"Batch size {size} exceeds maximum allowed size of {_MOST_IN_A_BATCH}"
            )
        # side by side: they share commits
        results = await asyncio.gather(
            *(self._one(verb, each, choice) for each in body.invocation_ids)
        )
        succeeded: list[str | RestartedInvocation] = []
        failed = []
        for invocation_id, result in zip(body.invocation_ids, results, strict=True):
            if isinstance(result, Restarted):
                succeeded.append(RestartedInvocation(invocation_id, result.invocation_id))
            elif (reason := batch_error(verb, result, invocation_id)) != "":
                failed.append(FailedOperation(invocation_id, reason))
            else:
                succeeded.append(invocation_id)
        return json_answer(BatchAnswer(succeeded, failed))

    async def _one(
        self, verb: str, invocation_id: str, choice: DeploymentChoice
    ) -> Restarted | OpResult | Incompatible:
        if verb == RESTART:
            return await self._runtime.restart(invocation_id, 0, choice)
        return await self._runtime.operate(invocation_id, Op(verb), choice)

    # ---- deployments

    def _chosen(self, given: str | None, default: Which) -> DeploymentChoice:
        """Raises BadId."""
        if given is None:
            return default
        word = _WORDS.get(given)
        if word is not None:
            return word
        fault = id_fault(given)
        if fault:
            raise BadId(fault)
        return At(given) if self._registrar is None else self._registrar.place(given)


def _bad_choice(reason: BadId) -> web.Response:
    return error(400, f"The query parameter 'deployment' is invalid. Reason: {reason}")
