"""What the admin API answers to an operation on an invocation: (operation, outcome) to status, text.

Pure; `{}` in a text is the invocation's id. An empty text is an empty body. Rules: admin 6.
"""

from typing import Final

from perdure.journal.requests import Op, OpResult

_THE = "The invocation '{}' "
_COMPLETED = (409, _THE + "was already completed.")
_NOT_COMPLETED = (409, _THE + "is not yet completed.")
_NOT_RUNNING = (409, _THE + "is not running, cannot be paused.")
_NOT_STARTED = (425, _THE + "is either inboxed or scheduled, cannot be resumed.")
_RESUMED_TOO_LATE = (409, _THE + "is completed, cannot be resumed.")
NO_INVOCATION: Final = "The requested invocation '{}' does not exist"

# What a (operation, outcome) pair gets where it is not the usual answer to its outcome.
_SPECIAL: Final = {
    (Op.RESUME, OpResult.COMPLETED): _RESUMED_TOO_LATE,
    (Op.PAUSE, OpResult.COMPLETED): _NOT_RUNNING,
    (Op.PAUSE, OpResult.NOT_STARTED): _NOT_RUNNING,
    (Op.RESUME, OpResult.NOT_RUNNING): _NOT_STARTED,
}
_USUAL: Final = {
    OpResult.DONE: (200, ""),
    OpResult.ACCEPTED: (202, ""),
    OpResult.NOT_FOUND: (404, NO_INVOCATION),
    OpResult.COMPLETED: _COMPLETED,
    OpResult.NOT_COMPLETED: _NOT_COMPLETED,
    OpResult.NOT_RUNNING: _NOT_RUNNING,
    OpResult.NOT_STARTED: _NOT_STARTED,
}


def operation_answer(op: Op, result: OpResult, invocation_id: str) -> tuple[int, str]:
    """Status and message; the message is empty where the body is."""
    status, text = _SPECIAL.get((op, result)) or _USUAL[result]
    return status, text.format(invocation_id)
