"""Answers of the admin API: its three shapes of errors, JSON, and bodies in. Rules: admin 2."""

from typing import TypeVar

import msgspec
from aiohttp import web

from perdure.gateway.bodies import read_body
from perdure.gateway.responses import Refusal, admin_body

_encode = msgspec.json.Encoder().encode

T = TypeVar("T")


def json_answer(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")


def error(status: int, message: str, restate_code: str | None = None) -> web.Response:
    body = admin_body(message, restate_code)
    return web.Response(status=status, body=body, content_type="application/json")


def text(status: int, message: str) -> web.Response:
    """What goes wrong before an operation begins is told in plain text."""
    return web.Response(status=status, text=message)


def misshapen(reason: object) -> web.Response:
    return text(422, f"Failed to deserialize the JSON body into the target type: {reason}")


def not_json(reason: object) -> web.Response:
    return text(400, f"Failed to parse the request body as JSON: {reason}")


def bad_query(reason: str) -> web.Response:
    return text(400, f"Failed to deserialize query string: {reason}")


def no_service(name: str) -> web.Response:
    return error(404, f"The requested service '{name}' does not exist")


async def json_body(request: web.BaseRequest, limit_bytes: int) -> bytes | web.Response:
    """The body of a request that says it is JSON, or the answer that refuses it."""
    if request.content_type != "application/json":
        return text(415, "Expected request with `Content-Type: application/json`")
    announced = request.content_length
    if announced is not None and announced > limit_bytes:
        return text(413, "length limit exceeded")
    body = await read_body(request, limit_bytes)
    return text(body.status, body.message) if isinstance(body, Refusal) else body


async def json_of(request: web.BaseRequest, limit_bytes: int, type_: type[T]) -> T | web.Response:
    """The body as a ``type_``, or the answer that refuses it."""
    body = await json_body(request, limit_bytes)
    if isinstance(body, web.Response):
        return body
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as e:
        return misshapen(e)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        return not_json(e)
