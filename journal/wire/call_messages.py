"""The payloads of commands that concern other invocations, both ways: one reader and one builder each.

As in command_messages.py, which has the rest and the tables. Field by field: service protocol 3.5.
"""

from perdure.journal.entries import (
    AttachInvocation,
    AttachTarget,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Call,
    CompleteAwakeable,
    GetInvocationOutput,
    OneWayCall,
    SendSignal,
    SignalResult,
    Value,
    Void,
)
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import RawFrame
from perdure.journal.wire.shared import (
    failure,
    failure_message,
    header_messages,
    headers,
    outcome,
    parse,
    refuse,
)


def read_call(raw: RawFrame) -> Call:
    message = parse(pb.CallCommand.FromString, raw)
    return Call(
        message.invocation_id_notification_idx,
        message.result_completion_id,
        message.service_name,
        message.handler_name,
        message.key,
        message.parameter,
        headers(message.headers),
        message.idempotency_key if message.HasField("idempotency_key") else None,
        message.scope if message.HasField("scope") else None,
        message.limit_key if message.HasField("limit_key") else None,
        message.name,
    )


def build_call(entry: Call) -> bytes:
    return pb.CallCommand(
        service_name=entry.service,
        handler_name=entry.handler,
        parameter=entry.parameter,
        headers=header_messages(entry.headers),
        key=entry.key,
        idempotency_key=entry.idempotency_key,
        scope=entry.scope,
        limit_key=entry.limit_key,
        invocation_id_notification_idx=entry.id_completion_id,
        result_completion_id=entry.completion_id,
        name=entry.name,
    ).SerializeToString()


def read_one_way(raw: RawFrame) -> OneWayCall:
    message = parse(pb.OneWayCallCommand.FromString, raw)
    return OneWayCall(
        message.invocation_id_notification_idx,
        message.service_name,
        message.handler_name,
        message.key,
        message.parameter,
        message.invoke_time,
        headers(message.headers),
        message.idempotency_key if message.HasField("idempotency_key") else None,
        message.scope if message.HasField("scope") else None,
        message.limit_key if message.HasField("limit_key") else None,
        message.name,
    )


def build_one_way(entry: OneWayCall) -> bytes:
    return pb.OneWayCallCommand(
        service_name=entry.service,
        handler_name=entry.handler,
        parameter=entry.parameter,
        invoke_time=entry.invoke_at_ms,
        headers=header_messages(entry.headers),
        key=entry.key,
        idempotency_key=entry.idempotency_key,
        scope=entry.scope,
        limit_key=entry.limit_key,
        invocation_id_notification_idx=entry.id_completion_id,
        name=entry.name,
    ).SerializeToString()


def read_signal(raw: RawFrame) -> SendSignal:
    message = parse(pb.SendSignalCommand.FromString, raw)
    addressed = message.WhichOneof("signal_id")
    if addressed is None:
        refuse(raw.type, "the signal's index or name", "neither is present")
    result: SignalResult
    match message.WhichOneof("result"):
        case "void":
            result = Void()
        case "value":
            result = Value(message.value.content)
        case "failure":
            result = failure(message.failure)
        case _:
            refuse(raw.type, "void, a value or a failure", "none of them is present")
    signal = message.idx if addressed == "idx" else message.name
    return SendSignal(message.target_invocation_id, signal, result, message.entry_name)


def build_signal(entry: SendSignal) -> bytes:
    message = pb.SendSignalCommand(target_invocation_id=entry.target_id, entry_name=entry.name)
    if isinstance(entry.signal, str):
        message.name = entry.signal
    else:
        message.idx = entry.signal
    result = entry.result
    if isinstance(result, Value):
        message.value.CopyFrom(pb.Value(content=result.content))
    elif isinstance(result, Void):
        message.void.SetInParent()
    else:
        message.failure.CopyFrom(failure_message(result))
    return message.SerializeToString()


def _target(message: pb.AttachCommand, type: int) -> AttachTarget:
    match message.WhichOneof("target"):
        case "invocation_id":
            return ById(message.invocation_id)
        case "idempotent_request_target":
            request = message.idempotent_request_target
            return ByIdempotencyKey(
                request.service_name,
                request.service_key if request.HasField("service_key") else None,
                request.handler_name,
                request.idempotency_key,
                request.scope if request.HasField("scope") else None,
            )
        case "workflow_target":
            workflow = message.workflow_target
            return ByWorkflow(
                workflow.workflow_name,
                workflow.workflow_key,
                workflow.scope if workflow.HasField("scope") else None,
            )
        case _:
            refuse(type, "an invocation's id or target", "none is present")


def read_attach(raw: RawFrame) -> AttachInvocation:
    message = parse(pb.AttachCommand.FromString, raw)
    return AttachInvocation(message.result_completion_id, _target(message, raw.type), message.name)


def read_get_output(raw: RawFrame) -> GetInvocationOutput:
    message = parse(pb.AttachCommand.FromString, raw)
    return GetInvocationOutput(
        message.result_completion_id, _target(message, raw.type), message.name
    )


def build_attach(entry: AttachInvocation | GetInvocationOutput) -> bytes:
    message = pb.AttachCommand(result_completion_id=entry.completion_id, name=entry.name)
    match entry.target:
        case ById(invocation_id):
            message.invocation_id = invocation_id
        case ByIdempotencyKey(service, key, handler, idempotency_key, scope):
            message.idempotent_request_target.CopyFrom(
                pb.IdempotentRequestTarget(
                    service_name=service,
                    service_key=key,
                    handler_name=handler,
                    idempotency_key=idempotency_key,
                    scope=scope,
                )
            )
        case ByWorkflow(service, key, scope):
            message.workflow_target.CopyFrom(
                pb.WorkflowTarget(workflow_name=service, workflow_key=key, scope=scope)
            )
    return message.SerializeToString()


def read_awakeable(raw: RawFrame) -> CompleteAwakeable:
    message = parse(pb.CompleteAwakeableCommand.FromString, raw)
    result = outcome(message, "result", raw.type)
    return CompleteAwakeable(message.awakeable_id, result, message.name)


def build_awakeable(entry: CompleteAwakeable) -> bytes:
    message = pb.CompleteAwakeableCommand(awakeable_id=entry.awakeable_id, name=entry.name)
    if isinstance(entry.result, Value):
        message.value.CopyFrom(pb.Value(content=entry.result.content))
    else:
        message.failure.CopyFrom(failure_message(entry.result))
    return message.SerializeToString()
