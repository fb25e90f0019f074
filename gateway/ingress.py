"""The HTTP ingress: calls, sends, attach, output, lookup, awakeables, health.

Translates HTTP to the ``Runtime`` protocol and back; decides nothing about an invocation. Whoever reads
HTTP/1 or HTTP/2 from the wire calls it. A client that goes away cancels nothing: the connection leaves
the handler alone, and the runtime does not let a cancelled wait touch the invocation.
Rules: ingress.md; the order of the checks is its 2.2. `POST /Service/key/handler` is the hot path.
"""

import logging
from typing import Final, assert_never

import msgspec

from perdure.gateway import ingress_routes as routes
from perdure.gateway.content import input_error, output_content_type
from perdure.gateway.durations import rfc3339_ms, rfc3339_ns
from perdure.gateway.http_request import HttpRequest
from perdure.gateway.ingress_options import (
    SCOPES_ARE_OFF,
    Target,
    check_limit_key,
    check_scope,
    delay_ms,
    parse_target,
)
from perdure.gateway.responses import (
    ATTACH_UNKNOWN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    NOT_READY,
    TOO_MANY,
    UNKNOWN_INVOCATION,
    Refusal,
    failure_body,
    failure_status,
    refusal_body,
    refusal_of,
)
from perdure.gateway.settings import Ingress as IngressSettings
from perdure.gateway.wire import JSON, Cors, Reply, header_line
from perdure.journal import entries, trace
from perdure.journal.entries import Failure, Value
from perdure.journal.errors import BadId, PerdureError
from perdure.journal.requests import Accepted, Answer, Invoke, NotFound, NotReady, Output, Runtime
from perdure.journal.schema import Handler, HandlerType

log = logging.getLogger("perdure.gateway.ingress")

_ANNOUNCED_TOO_LARGE: Final = (
    413, b"content-type: text/plain; charset=utf-8\r\n", b"length limit exceeded"
)  # fmt: skip
_DELAYED_CALL: Final = Refusal(
    400,
    "cannot use the delay query parameter with calls. The delay is supported only with sends",
)
_PRIVATE: Final = Refusal(400, "the invoked service is not public")
_KEY_ON_WORKFLOW: Final = Refusal(
    400,
    "cannot use the idempotency key with workflow handlers. "
    "The handler invocation will already be idempotent by the workflow key itself.",
)
_INTERNAL: Final = Refusal(
    500,
    "internal error, the request may or may not have been carried out; the server's log has the "
    "details",
)
_DROPPED_HEADERS: Final = ("connection", "host", "idempotency-expires")
_AWAKEABLE_FAILURE: Final = 500
_MOST_PLANS: Final = 10_000  # handlers of superseded revisions are forgotten with the rest past it

_encode = msgspec.json.Encoder().encode


class _Sent(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    invocation_id: str
    execution_time: str = ""
    status: str = ""


class _Plan(msgspec.Struct, frozen=True):
    """What never changes about answering for one handler."""

    handler: Handler
    plain_types: frozenset[str]  # content types that pass with a body, as most clients write them
    lines: bytes  # content type of an answer with a body
    empty_lines: bytes


class Ingress:
    """One instance serves all connections; ``handle`` is what the server calls."""

    def __init__(self, runtime: Runtime, settings: IngressSettings) -> None:
        self._runtime = runtime
        self._size_limit_bytes = settings.request_size_limit_bytes
        self._in_flight_limit = settings.concurrent_requests_limit
        self._in_flight_count = 0
        self._cors = Cors(settings.cors_origins)
        self._plans: dict[int, _Plan] = {}

    async def handle(self, request: HttpRequest) -> Reply:
        """Answer one request; never raises for anything that a caller or the engine did."""
        if request.announced_bytes > self._size_limit_bytes:
            return Reply(*_ANNOUNCED_TOO_LARGE, close=True)
        if request.method == "OPTIONS":
            return self._cors.preflight(request)
        if self._in_flight_count >= self._in_flight_limit:
            return self._refuse(request, TOO_MANY)
        self._in_flight_count += 1
        try:
            return await self._route(request)
        except PerdureError as e:
            return self._refuse(request, refusal_of(e))
        except ConnectionError:
            log.debug("a client went away while its request was read")
            return Reply(400, b"", b"", close=True)
        except Exception:
            log.exception("a request failed inside the gateway")
            return self._refuse(request, _INTERNAL)
        finally:
            self._in_flight_count -= 1

    async def _route(self, request: HttpRequest) -> Reply:
        route = routes.parse(request.raw_path, self._runtime.services())
        if type(route) is routes.Invocation:
            return await self._invocation(request, route)
        match route:
            case Refusal():
                return self._refuse(request, route)
            case routes.Invocation():
                return await self._invocation(request, route)
            case routes.Awakeable():
                return await self._awakeable(request, route)
            case routes.ByBody():
                return await self._by_body(request, route)
            case routes.Health():
                return self._health(request)
            case routes.ById() | routes.ByIdempotencyKey() | routes.ByWorkflow():
                if request.method != "GET":
                    return self._refuse(request, METHOD_NOT_ALLOWED)
                return await self._result(request, _target(route), route.attach)
            case _:
                assert_never(route)

    # ---- calls and sends ------------------------------------------------------------------------

    async def _invocation(self, request: HttpRequest, route: routes.Invocation) -> Reply:
        handler = route.service.handlers.get(route.handler)
        if handler is None:
            return self._refuse(request, _unknown_handler(route))
        if not handler.public:
            return self._refuse(request, _PRIVATE)
        headers = _forwarded(request)
        idempotency_key = headers.pop("idempotency-key", None)
        if idempotency_key is not None or route.scope is not None:
            refusal = _check_identity(handler, idempotency_key, route.scope)
            if refusal is not None:
                return self._refuse(request, refusal)
        if request.method not in ("POST", "GET"):
            return self._refuse(request, METHOD_NOT_ALLOWED)
        body = await request.body(self._size_limit_bytes)
        if type(body) is not bytes:
            return self._refuse(request, body)  # type: ignore[arg-type]
        plan = self._plans.get(id(handler)) or self._make_plan(handler)
        content_type = headers.get("content-type")
        if not body or content_type not in plan.plain_types:
            error = input_error(handler.input_rules, content_type, body)
            if error is not None:
                return self._refuse(request, Refusal(400, error))
        delay = delay_ms(route.query) if route.query else None
        refusal = _check_rest(headers, route.query, delay)
        if refusal is not None:
            return self._refuse(request, refusal)
        given = headers.get("traceparent")
        invoke = Invoke(
            handler, route.key, body, tuple(headers.items()), idempotency_key,
            delay if type(delay) is int else None,
            trace=None if given is None else trace.parse(given),
        )  # fmt: skip
        if route.one_way:
            return self._sent(request, await self._runtime.send(invoke))
        if delay is not None:
            return self._refuse(request, _DELAYED_CALL)
        return self._answer(request, await self._runtime.call(invoke), plan)

    def _make_plan(self, handler: Handler) -> _Plan:
        """Keyed by identity: a plan keeps its handler alive, so the number cannot come again."""
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plain = frozenset(r.content_type for r in handler.input_rules if r.content_type)
        plan = _Plan(
            handler,
            frozenset(each for each in plain if "*" not in each),
            _content_type_line(handler, b"x"),
            _content_type_line(handler, b""),
        )
        self._plans[id(handler)] = plan
        return plan

    def _answer(self, request: HttpRequest, answer: Answer, plan: _Plan) -> Reply:
        result = answer.result
        if type(result) is not Value or answer.expires_at_ms is not None:
            return self._stored_answer(request, answer, plan)
        body = result.content
        lines = (
            b"x-restate-id: "
            + answer.invocation_id.encode()
            + (b"\r\n" + plan.lines if body else b"\r\n" + plan.empty_lines)
            + self._cors.lines(request)
        )
        return Reply(200, lines, body)

    def _stored_answer(self, request: HttpRequest, answer: Answer, plan: _Plan) -> Reply:
        """A failure, or anything that was served from a stored completion."""
        lines = b"x-restate-id: " + answer.invocation_id.encode() + b"\r\n"
        if answer.expires_at_ms is not None:
            lines += header_line(b"idempotency-expires", rfc3339_ms(answer.expires_at_ms))
        lines += self._cors.lines(request)
        match answer.result:
            case Value(content=body):
                return Reply(200, lines + (plan.lines if body else plan.empty_lines), body)
            case Failure() as failure:
                lines += b"x-restate-error-source: invocation\r\n" + JSON
                return Reply(failure_status(failure.code), lines, failure_body(failure))
            case _:
                assert_never(answer.result)

    def _sent(self, request: HttpRequest, accepted: Accepted) -> Reply:
        time_ms = accepted.execution_time_ms
        body = _Sent(
            accepted.invocation_id,
            "" if time_ms is None else rfc3339_ns(time_ms),
            "Accepted" if accepted.is_new else "PreviouslyAccepted",
        )
        lines = JSON + header_line(b"x-restate-id", accepted.invocation_id)
        return Reply(202, lines + self._cors.lines(request), _encode(body))

    # ---- results of invocations that exist ------------------------------------------------------

    async def _by_body(self, request: HttpRequest, route: routes.ByBody) -> Reply:
        if request.method != "POST":
            return self._refuse(request, METHOD_NOT_ALLOWED)
        body = await request.body(self._size_limit_bytes)
        if isinstance(body, Refusal):
            return self._refuse(request, body)
        target = parse_target(route.verb, body)
        if isinstance(target, Refusal):
            return self._refuse(request, target)
        if route.verb != "lookup":
            return await self._result(request, target, route.verb == "attach")
        try:
            found = self._runtime.invocation_id(target)
        except BadId as e:
            return self._refuse(request, _bad_id(target, e))
        lines = JSON + self._cors.lines(request)
        return Reply(200, lines, _encode({"invocationId": found}))

    async def _result(self, request: HttpRequest, target: Target, attach: bool) -> Reply:
        try:
            invocation_id = self._runtime.invocation_id(target)
            find = self._runtime.attach if attach else self._runtime.output
            found: Output = await find(invocation_id)
        except BadId as e:
            return self._refuse(request, _bad_id(target, e))
        match found:
            case NotFound() if attach:
                line = header_line(b"x-restate-id", found.invocation_id)
                return self._refuse(request, ATTACH_UNKNOWN, line)
            case NotFound():
                return self._refuse(request, UNKNOWN_INVOCATION)
            case NotReady():
                return self._refuse(request, NOT_READY)
            case Answer():
                handler = found.handler
                if handler is None:  # its service is gone: nobody knows the content type
                    return self._refuse(request, NOT_FOUND)
                plan = self._plans.get(id(handler)) or self._make_plan(handler)
                return self._stored_answer(request, found, plan)
            case _:
                assert_never(found)

    async def _awakeable(self, request: HttpRequest, route: routes.Awakeable) -> Reply:
        if request.method != "POST":
            return self._refuse(request, METHOD_NOT_ALLOWED)
        body = await request.body(self._size_limit_bytes)
        if isinstance(body, Refusal):
            return self._refuse(request, body)
        result: Value | Failure = Value(body)
        if not route.resolve:
            result = Failure(_AWAKEABLE_FAILURE, body.decode("utf-8", "replace"))
        try:
            await self._runtime.complete_awakeable(route.awakeable_id, result)
        except BadId as e:
            text = f"bad awakeable id '{route.awakeable_id}': {e}"
            return self._refuse(request, Refusal(400, text))
        return Reply(202, self._cors.lines(request), b"")

    def _health(self, request: HttpRequest) -> Reply:
        if request.method != "GET":
            return self._refuse(request, METHOD_NOT_ALLOWED)
        body = _encode({"services": list(self._runtime.services())})
        return Reply(200, JSON + self._cors.lines(request), body)

    def _refuse(self, request: HttpRequest, refusal: Refusal, lines: bytes = b"") -> Reply:
        lines += JSON + self._cors.lines(request)
        lines += b"x-restate-error-source: " + refusal.source.encode() + b"\r\n"
        if refusal.retry_after_s is not None:
            lines += b"retry-after: %d\r\n" % refusal.retry_after_s
        return Reply(refusal.status, lines, refusal_body(refusal))


# ---- pure parts ----------------------------------------------------------------------------------


def _forwarded(request: HttpRequest) -> dict[str, str]:
    """What the handler sees: path first, then each header once, with its first value (12.2).

    The idempotency key is still among them. ``x-restate-ingress-path`` cannot be sent by a client.
    """
    path = {"x-restate-ingress-path": request.raw_path}
    headers = path | request.headers | path
    for name in _DROPPED_HEADERS:
        headers.pop(name, None)
    return headers


def _unknown_handler(route: routes.Invocation) -> Refusal:
    return Refusal(
        404,
        f"the service '{route.service.name}' exists, but the handler '{route.handler}' was not "
        "found, check that the handler exists in the latest registered service version.",
    )


def _check_identity(
    handler: Handler, idempotency_key: str | None, scope: str | None
) -> Refusal | None:
    if idempotency_key is not None:
        if not _is_visible(idempotency_key):
            return _bad_header("idempotency-key")
        if handler.type is HandlerType.WORKFLOW:
            return _KEY_ON_WORKFLOW
    if scope is not None:
        return check_scope(scope) or SCOPES_ARE_OFF
    return None


def _check_rest(headers: dict[str, str], query: str, delay: int | Refusal | None) -> Refusal | None:
    """Checks 10 and 11 of ingress 2.2; all of them pass on the hot path."""
    if type(delay) is Refusal:
        return delay
    limit_key = headers.get("x-restate-limit-key")
    if limit_key is not None or query:
        refusal = check_limit_key(limit_key, query)
        if refusal is not None:
            return refusal
    together = "".join(headers.values())
    if together.isascii() and together.isprintable():
        return None
    for name, value in headers.items():
        if not _is_visible(value):
            return _bad_header(name)
    return None


def _is_visible(value: str) -> bool:
    """Visible ASCII, as header values are forwarded; tabs count."""
    return value.isascii() and value.replace("\t", " ").isprintable()


def _bad_header(name: str) -> Refusal:
    return Refusal(400, f"bad header {name}: ToStrError {{ _priv: () }}")


def _content_type_line(handler: Handler, body: bytes) -> bytes:
    content_type = output_content_type(handler.output_rule, body)
    return b"" if content_type is None else header_line(b"content-type", content_type)


def _target(route: routes.ById | routes.ByIdempotencyKey | routes.ByWorkflow) -> Target:
    match route:
        case routes.ById():
            return entries.ById(route.invocation_id)
        case routes.ByIdempotencyKey():
            return entries.ByIdempotencyKey(
                route.service, route.key, route.handler, route.idempotency_key
            )
        case routes.ByWorkflow():
            return entries.ByWorkflow(route.service, route.key)
        case _:
            assert_never(route)


def _bad_id(target: Target, error: BadId) -> Refusal:
    text = target.invocation_id if isinstance(target, entries.ById) else ""
    return Refusal(400, f"bad invocation id '{text}': {error}")
