"""Journal entries as the JSON columns of `sys_journal`: whole, and without payloads. Pure. Introspection 7.

Bytes are arrays of numbers. Fields that the runtime does not keep (spans, a callee's retention) are left
at their empty value.
"""

from collections.abc import Callable
from typing import Any, Final

from perdure.gateway.sql.entry_words import Named
from perdure.journal import entries as e
from perdure.journal.schema import ServiceType

_SPAN: Final = {
    "span_context": {
        "trace_id": [0] * 16,
        "span_id": [0] * 8,
        "trace_flags": 0,
        "is_remote": False,
        "trace_state": "",
    },
    "cause": None,
}
_NO_TIME: Final = {"secs": 0, "nanos": 0}

TypeOf = Callable[[str], ServiceType | None]  # of a service, by name
Json = dict[str, Any]


def full(named: Named, type_of: TypeOf) -> Json:
    """`entry_json`."""
    entry = named.entry
    if isinstance(entry, e.Completion):
        return {"Notification": {"Completion": {named.word: _completion(entry, named.word)}}}
    if isinstance(entry, e.Signal):
        result = _result(entry.result)
        return {"Notification": {"Signal": {"id": _signal_id(entry.signal), "result": result}}}
    fields = _FULL[type(entry)](entry, named, type_of)
    return {"Command": {named.word: fields | {"name": getattr(entry, "name", "")}}}


def lite(named: Named, type_of: TypeOf) -> Json:
    """`entry_lite_json`."""
    entry = named.entry
    if isinstance(entry, e.Completion):
        id: Json = {"CompletionId": entry.completion_id}
        ty: Any = {"Completion": named.word}
        return {"Notification": {"ty": ty, "id": id, "result": _word(entry.result)}}
    if isinstance(entry, e.Signal):
        ((kind, signal),) = _signal_id(entry.signal).items()
        id = {f"Signal{kind}": signal}
        return {"Notification": {"ty": "Signal", "id": id, "result": _word(entry.result)}}
    fields = _LITE[type(entry)](entry, named, type_of)
    name = getattr(entry, "name", "")
    return {"Command": {named.word: fields | ({"name": name} if name else {})}}


# ---- results -------------------------------------------------------------------------------------


def _word(result: e.Result) -> str:
    match result:
        case e.Void():
            return "Void"
        case e.Value():
            return "Success"
        case e.Failure():
            return "Failure"
        case e.StateKeys():
            return "StateKeys"
        case e.InvocationId():
            return "InvocationId"


def _result(result: e.Result) -> Any:
    match result:
        case e.Void():
            return "Void"
        case e.Value():
            return {"Success": list(result.content)}
        case e.Failure():
            metadata = [{"key": k, "value": v} for k, v in result.metadata.items()]
            more = {"metadata": metadata} if metadata else {}
            return {"Failure": {"code": result.code, "message": result.message, **more}}
        case e.StateKeys():
            return {"StateKeys": list(result.keys)}
        case e.InvocationId():
            return {"InvocationId": result.id}


def _completion(entry: e.Completion, word: str) -> Json:
    match entry.result:
        case e.InvocationId(id=id):
            return {"completion_id": entry.completion_id, "invocation_id": id}
        case e.StateKeys(keys=keys):
            return {"completion_id": entry.completion_id, "state_keys": list(keys)}
        case e.Void() if word == "Sleep":
            return {"completion_id": entry.completion_id}
        case result:
            return {"completion_id": entry.completion_id, "result": _result(result)}


def _signal_id(signal: int | str) -> Json:
    return {"Name" if isinstance(signal, str) else "Index": signal}


# ---- commands ------------------------------------------------------------------------------------


def _headers(headers: e.Headers) -> list[Json]:
    return [{"name": name, "value": value} for name, value in headers]


def _target(entry: e.Call | e.OneWayCall, type_of: TypeOf) -> Json:
    target: Json = {"name": entry.service}
    match type_of(entry.service):
        case ServiceType.WORKFLOW:
            target |= {"key": entry.key, "handler": entry.handler, "handler_ty": "Workflow"}
            return {"Workflow": target | {"scope": entry.scope}}
        case ServiceType.VIRTUAL_OBJECT:
            return {"VirtualObject": _object(entry)}
        case None if entry.key:
            return {"VirtualObject": _object(entry)}
        case _:
            return {"Service": target | {"handler": entry.handler, "scope": entry.scope}}


def _object(entry: e.Call | e.OneWayCall) -> Json:
    return {
        "name": entry.service,
        "key": entry.key,
        "handler": entry.handler,
        "handler_ty": "Exclusive",
        "scope": entry.scope,
    }


def _request(entry: e.Call | e.OneWayCall, named: Named, type_of: TypeOf) -> Json:
    return {
        "invocation_id": named.callee,
        "invocation_target": _target(entry, type_of),
        "span_context": _SPAN,
        "parameter": list(entry.parameter),
        "headers": _headers(entry.headers),
        "idempotency_key": entry.idempotency_key,
        "completion_retention_duration": _NO_TIME,
        "journal_retention_duration": _NO_TIME,
    }


def _attach_target(target: e.AttachTarget) -> Json:
    match target:
        case e.ById():
            return {"InvocationId": target.invocation_id}
        case e.ByIdempotencyKey():
            return {
                "IdempotentRequest": {
                    "service_name": target.service,
                    "service_key": target.key,
                    "service_handler": target.handler,
                    "idempotency_key": target.idempotency_key,
                    "scope": target.scope,
                }
            }
        case e.ByWorkflow():
            workflow = {"service_name": target.service, "key": target.key, "scope": target.scope}
            return {"Workflow": workflow}


def _eager(entry: e.GetEagerState) -> Any:
    return "Void" if entry.value is None else {"Success": list(entry.value)}


def _promised(entry: Any) -> Json:
    return {"key": entry.key, "completion_id": entry.completion_id}


def _attached(entry: Any) -> Json:
    return {"target": _attach_target(entry.target), "completion_id": entry.completion_id}


def _sent(entry: e.SendSignal) -> Json:
    return {"target_invocation_id": entry.target_id, "signal_id": _signal_id(entry.signal)}


def _slept(entry: e.Sleep) -> Json:
    return {"wake_up_time": entry.wake_up_at_ms, "completion_id": entry.completion_id}


def _called(entry: e.Call) -> Json:
    return {
        "invocation_id_completion_id": entry.id_completion_id,
        "result_completion_id": entry.completion_id,
    }


def _sent_call(entry: e.OneWayCall) -> Json:
    return {
        "invoke_time": entry.invoke_at_ms,
        "invocation_id_completion_id": entry.id_completion_id,
    }


def _callee(entry: e.Call | e.OneWayCall, named: Named, type_of: TypeOf) -> Json:
    return {"invocation_id": named.callee, "invocation_target": _target(entry, type_of)}


Fields = Callable[[Any, Named, TypeOf], Json]

_SAME: Final[dict[type, Fields]] = {  # the same in both, since they carry no payload
    e.GetLazyState: lambda entry, *_: _promised(entry),
    e.GetLazyStateKeys: lambda entry, *_: {"completion_id": entry.completion_id},
    e.ClearState: lambda entry, *_: {"key": entry.key},
    e.ClearAllState: lambda entry, *_: {},
    e.GetPromise: lambda entry, *_: _promised(entry),
    e.PeekPromise: lambda entry, *_: _promised(entry),
    e.Sleep: lambda entry, *_: _slept(entry),
    e.Run: lambda entry, *_: {"completion_id": entry.completion_id},
    e.AttachInvocation: lambda entry, *_: _attached(entry),
    e.GetInvocationOutput: lambda entry, *_: _attached(entry),
}
_FULL: Final[dict[type, Fields]] = {
    **_SAME,
    e.Input: lambda entry, *_: {
        "headers": _headers(entry.headers),
        "payload": list(entry.value),
    },
    e.Output: lambda entry, *_: {"result": _result(entry.result)},
    e.SetState: lambda entry, *_: {"key": entry.key, "value": list(entry.value)},
    e.GetEagerState: lambda entry, *_: {"key": entry.key, "result": _eager(entry)},
    e.GetEagerStateKeys: lambda entry, *_: {"state_keys": list(entry.keys)},
    e.CompletePromise: lambda entry, *_: _promised(entry) | {"value": _result(entry.result)},
    e.Call: lambda entry, *rest: {"request": _request(entry, *rest)} | _called(entry),
    e.OneWayCall: lambda entry, *rest: {"request": _request(entry, *rest)} | _sent_call(entry),
    e.SendSignal: lambda entry, *_: _sent(entry) | {"result": _result(entry.result)},
    e.CompleteAwakeable: lambda entry, *_: {
        "id": entry.awakeable_id,
        "result": _result(entry.result),
    },
}
_LITE: Final[dict[type, Fields]] = {
    **_SAME,
    e.Input: lambda entry, *_: {},
    e.Output: lambda entry, *_: {"result": _word(entry.result)},
    e.SetState: lambda entry, *_: {"key": entry.key},
    e.GetEagerState: lambda entry, *_: {
        "key": entry.key,
        "result": "Void" if entry.value is None else "Success",
    },
    e.GetEagerStateKeys: lambda entry, *_: {},
    e.CompletePromise: lambda entry, *_: _promised(entry) | {"value": _word(entry.result)},
    e.Call: lambda entry, *rest: _callee(entry, *rest) | _called(entry),
    e.OneWayCall: lambda entry, *rest: _callee(entry, *rest) | _sent_call(entry),
    e.SendSignal: lambda entry, *_: _sent(entry) | {"result": _word(entry.result)},
    e.CompleteAwakeable: lambda entry, *_: {
        "id": entry.awakeable_id,
        "result": _word(entry.result),
    },
}
