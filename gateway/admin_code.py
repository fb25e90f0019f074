"""The admin operation that takes the present code of the server's targets as a new version.

It names no path: the code is that of the targets which the server was started with, so whoever may use
the admin API can't make the server run a file of their choice.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from aiohttp import web

from perdure.gateway.admin_answers import error, json_answer, json_of
from perdure.gateway.settings import SettingsError
from perdure.gateway.versions import NotEverywhere, OtherCode, Versions

_Operation: TypeAlias = Callable[..., Awaitable[web.Response]]


class DeployBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``expected``: the hash of the code that was checked; without it, whatever is there is taken."""

    expected: str | None = None


class CodeOperations:
    """``versions`` None: a server that was started without them."""

    def __init__(self, versions: Versions | None, size_limit_bytes: int) -> None:
        self._versions = versions
        self._size_limit_bytes = size_limit_bytes
        self.operations: dict[str, _Operation] = {"deploy_code": self._deploy}

    async def _deploy(self, request: web.BaseRequest) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, DeployBody)
        if isinstance(body, web.Response):
            return body
        if self._versions is None:
            return error(501, "this server keeps no versions; start it with perdure up --versions")
        try:
            deployed = await self._versions.deploy(body.expected)
        except OtherCode as e:
            return error(409, str(e))
        except SettingsError as e:
            return error(400, str(e))
        except NotEverywhere as e:
            return error(503, str(e))
        return json_answer(deployed, 201 if deployed.is_new else 200)
