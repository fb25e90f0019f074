"""The admin API's view of a key's state: read it, replace it as a whole. Rules: admin 5.5."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from perdure.gateway.admin_answers import error, json_answer, json_of, misshapen, no_service
from perdure.gateway.admin_models import state_json
from perdure.journal.keys import MAX_TEXT_BYTES
from perdure.journal.requests import Runtime
from perdure.journal.schema import Service, ServiceType

_Operation = Callable[..., Awaitable[web.Response]]
_is_scope = re.compile(r"[a-zA-Z0-9_.\-]{1,36}\Z").match
_HIGHEST_BYTE: Final = 255


class MutationBody(msgspec.Struct, frozen=True):
    """``new_state``: a text, or numbers of its bytes, for each name. ``version``: of the state that was
    read; a state that changed since stays."""

    object_key: str
    new_state: dict[str, list[int] | str]
    version: str | None = None
    scope: str | None = None


class StateOperations:
    def __init__(self, runtime: Runtime, size_limit_bytes: int) -> None:
        self._runtime = runtime
        self._size_limit_bytes = size_limit_bytes
        self.operations: dict[str, _Operation] = {
            "state": self._state,
            "mutate_state": self._mutate,
        }

    async def _state(self, request: web.BaseRequest, name: str, key: str) -> web.Response:
        service = self._runtime.services().get(name)
        if service is None:
            return no_service(name)
        if service.type is ServiceType.SERVICE:
            return error(400, "Cannot read state for service type Service")
        if len(key.encode()) > MAX_TEXT_BYTES:
            return _bad_key()
        return json_answer(state_json(await self._runtime.state(name, key)))

    async def _mutate(self, request: web.BaseRequest, name: str) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, MutationBody)
        if isinstance(body, web.Response):
            return body
        try:
            new_state = {k: _state_value(v) for k, v in body.new_state.items()}
        except ValueError as e:
            return misshapen(e)
        if body.scope is not None:
            if not _is_scope(body.scope):
                return error(400, "bad scope: expected 1 to 36 of letters, digits and '_.-'")
            return error(
                400, "The request field 'scope' is invalid. Reason: scopes are not enabled"
            )
        service = self._runtime.services().get(name)
        refused = _refuse(service, name, body, new_state)
        if refused is not None:
            return refused
        if service is not None:
            await self._runtime.patch_state(name, body.object_key, new_state, body.version)
        return web.Response(status=202)


def _state_value(value: list[int] | str) -> bytes:
    """Byte numbers, or a text that stands for its UTF-8. Raises ValueError."""
    if isinstance(value, str):
        return value.encode()
    if not all(0 <= each <= _HIGHEST_BYTE for each in value):
        raise ValueError("a state value must be a list of bytes, 0 to 255")
    return bytes(value)


def _refuse(
    service: Service | None, name: str, body: MutationBody, new_state: dict[str, bytes]
) -> web.Response | None:
    if service is None:  # clearing what does not exist is harmless
        return no_service(name) if new_state else None
    if service.type is ServiceType.SERVICE:
        return error(400, "Cannot modify state for service type Service")
    if len(body.object_key.encode()) > MAX_TEXT_BYTES:
        return _bad_key()
    return None


def _bad_key() -> web.Response:
    reason = f"it has more than {MAX_TEXT_BYTES} bytes"
    return error(400, f"The request field 'object_key' is invalid. Reason: {reason}")
