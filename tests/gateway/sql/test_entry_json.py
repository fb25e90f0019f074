"""The JSON of journal entries, by values."""

from typing import Any

import pytest

from perdure.gateway.sql.entry_json import full, lite
from perdure.gateway.sql.entry_words import name_all
from perdure.journal import entries as e
from perdure.journal.schema import ServiceType

CALLEE = "inv_1foAirY4KKzi51a4qxk6LCI2fbXrJBRz0J"
TYPES = {"Counter": ServiceType.VIRTUAL_OBJECT, "Greeter": ServiceType.SERVICE}

JOURNAL: list[e.Entry] = [
    e.Input((("a", "b"),), b'"x"'),
    e.Call(1, 2, "Counter", "add", "who", b"1"),
    e.Completion(1, e.InvocationId(CALLEE)),
    e.Completion(2, e.Value(b"1")),
    e.OneWayCall(3, "Greeter", "greet", "", b"", 5),
    e.Sleep(4, 1795337110860),
    e.Completion(4, e.Void()),
    e.Run(5, "step"),
    e.Completion(5, e.Failure(500, "no")),
    e.SetState("k", b"\x01"),
    e.GetEagerState("k", None),
    e.GetPromise(6, "p"),
    e.SendSignal(CALLEE, 17, e.Void()),
    e.Signal("paid", e.Value(b"")),
    e.Output(e.Value(b"H")),
]
OBJECT = {
    "name": "Counter",
    "key": "who",
    "handler": "add",
    "handler_ty": "Exclusive",
    "scope": None,
}


def in_lite(index: int) -> Any:
    return lite(list(name_all(JOURNAL))[index], TYPES.get)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, {"Command": {"Input": {}}}),
        (1, {"Command": {"Call": {
            "invocation_id": CALLEE, "invocation_target": {"VirtualObject": OBJECT},
            "invocation_id_completion_id": 1, "result_completion_id": 2}}}),
        (2, {"Notification": {"ty": {"Completion": "CallInvocationId"}, "id": {"CompletionId": 1},
                              "result": "InvocationId"}}),
        (3, {"Notification": {"ty": {"Completion": "Call"}, "id": {"CompletionId": 2},
                              "result": "Success"}}),
        (5, {"Command": {"Sleep": {"wake_up_time": 1795337110860, "completion_id": 4}}}),
        (7, {"Command": {"Run": {"completion_id": 5, "name": "step"}}}),
        (8, {"Notification": {"ty": {"Completion": "Run"}, "id": {"CompletionId": 5},
                              "result": "Failure"}}),
        (9, {"Command": {"SetState": {"key": "k"}}}),
        (10, {"Command": {"GetEagerState": {"key": "k", "result": "Void"}}}),
        (11, {"Command": {"GetPromise": {"key": "p", "completion_id": 6}}}),
        (12, {"Command": {"SendSignal": {"target_invocation_id": CALLEE,
                                         "signal_id": {"Index": 17}, "result": "Void"}}}),
        (13, {"Notification": {"ty": "Signal", "id": {"SignalName": "paid"}, "result": "Success"}}),
        (14, {"Command": {"Output": {"result": "Success"}}}),
    ],
)  # fmt: skip
def test_the_lite_form_has_no_payload(index: int, expected: Any) -> None:
    assert in_lite(index) == expected


def in_full(index: int) -> Any:
    return full(list(name_all(JOURNAL))[index], TYPES.get)


def test_the_full_form_has_bytes_as_numbers() -> None:
    assert in_full(0) == {
        "Command": {
            "Input": {
                "headers": [{"name": "a", "value": "b"}],
                "payload": [34, 120, 34],
                "name": "",
            }
        }
    }
    assert in_full(14) == {"Command": {"Output": {"result": {"Success": [72]}, "name": ""}}}
    assert in_full(12)["Command"]["SendSignal"]["signal_id"] == {"Index": 17}
    assert in_full(13)["Notification"]["Signal"]["id"] == {"Name": "paid"}
    assert in_full(3) == {
        "Notification": {"Completion": {"Call": {"completion_id": 2, "result": {"Success": [49]}}}}
    }
    assert in_full(2) == {
        "Notification": {
            "Completion": {"CallInvocationId": {"completion_id": 1, "invocation_id": CALLEE}}
        }
    }


def test_a_call_names_its_target_and_id_in_full() -> None:
    call = in_full(1)["Command"]["Call"]
    request = call["request"]
    assert request["invocation_id"] == CALLEE
    assert request["invocation_target"] == {"VirtualObject": OBJECT}
    assert request["parameter"] == [49]
    assert (call["invocation_id_completion_id"], call["result_completion_id"]) == (1, 2)
    send = in_full(4)["Command"]["OneWayCall"]
    target = {"Service": {"name": "Greeter", "handler": "greet", "scope": None}}
    assert (send["request"]["invocation_target"], send["invoke_time"]) == (target, 5)


def test_every_entry_has_both_forms_and_a_word() -> None:
    for each in name_all(JOURNAL):
        assert full(each, TYPES.get)
        assert lite(each, TYPES.get)
        assert each.word != "Unknown"


def test_a_completion_without_its_command_is_unknown() -> None:
    (only,) = name_all([e.Completion(9, e.Void())])
    assert only.entry_type == "Notification: Unknown"
