"""What the admin API answers to an operation on an invocation: (operation, outcome) to status, text.

Pure; `{}` in a text is the invocation's id. An empty text is an empty body. Rules: admin 6 and 7.
"""

from typing import Final

from perdure.journal.requests import Incompatible, Op, OpResult

RESTART: Final = "restart-as-new"

_THE = "The invocation '{}' "
_COMPLETED = (409, _THE + "was already completed.")
_NOT_COMPLETED = (409, _THE + "is not yet completed.")
_NOT_RUNNING = (409, _THE + "is not running, cannot be paused.")
_NOT_STARTED = (425, _THE + "is either inboxed or scheduled, cannot be resumed.")
_RESUMED_TOO_LATE = (409, _THE + "is completed, cannot be resumed.")
_FIXED = (
    409,
    _THE
    + "is still running or the deployment id is not pinned yet, deployment id cannot be changed.",
)
_NO_DEPLOYMENT = (
    400,
    "The given deployment was not found when trying to resume the invocation '{}'.",
)
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
    OpResult.DEPLOYMENT_FIXED: _FIXED,
    OpResult.NO_DEPLOYMENT: _NO_DEPLOYMENT,
}
_RESTART: Final = {
    OpResult.NOT_FOUND: (404, NO_INVOCATION),
    OpResult.NOT_COMPLETED: (409, _THE + "is still running."),
    OpResult.NOT_STARTED: (425, _THE + "cannot be restarted because it's not running yet."),
    OpResult.UNSUPPORTED: (
        422,
        "Restarting the invocation '{}' is not supported. Restarting workflows is not supported, and "
        "restarting invocations created using the old service protocol.",
    ),
    OpResult.NO_INPUT: (
        410,
        _THE
        + "cannot be restarted because the input is not available. This indicates that the journal "
        "was already purged, or not retained at all.",
    ),
    OpResult.NO_DEPLOYMENT: (
        400,
        "The given deployment was not found when trying to restart as new the invocation '{}'.",
    ),
    OpResult.BAD_PREFIX: (
        400,
        "The prefix of the journal '{}' up to 'from' (included) contains some Commands without respective "
        "Completions.",
    ),
    OpResult.BAD_EDIT: (
        400,
        "An edit of the journal of '{}' names an entry that is not taken over, or one without a value.",
    ),
}
_INCOMPATIBLE: Final = (
    "The invocation '{}' is running on protocol version '{}', while the chosen deployment '{}' supports "
    "the range {}..={}."
)

# The same in a batch (admin 7), where a text is all there is.
_BATCH: Final = {
    OpResult.NOT_FOUND: "Invocation '{}' not found",
    OpResult.COMPLETED: "Invocation '{}' was already completed",
    OpResult.NOT_COMPLETED: "Invocation '{}' is not yet completed",
    OpResult.NOT_RUNNING: "Invocation '{}' is not running, cannot be paused",
    OpResult.NOT_STARTED: "Invocation '{}' is either inboxed or scheduled, cannot be resumed",
    OpResult.DEPLOYMENT_FIXED: "Cannot change deployment ID for invocation '{}'",
    OpResult.NO_DEPLOYMENT: "Deployment not found for invocation '{}'",
    OpResult.UNSUPPORTED: "Restarting invocation '{}' is not supported",
    OpResult.NO_INPUT: "Invocation '{}' cannot be restarted because the input is not available",
    OpResult.BAD_PREFIX: "Journal prefix of invocation '{}' has commands without completions",
    OpResult.BAD_EDIT: "Invocation '{}' cannot be edited that way",
}
_BATCH_SPECIAL: Final = {
    (Op.RESUME, OpResult.COMPLETED): "Invocation '{}' is completed, cannot be resumed",
    (Op.PAUSE, OpResult.COMPLETED): "Invocation '{}' is not running, cannot be paused",
    (RESTART, OpResult.NOT_COMPLETED): "Invocation '{}' is still running",
    (RESTART, OpResult.NOT_STARTED): (
        "Invocation '{}' cannot be restarted because it's not running yet"
    ),
}
_IN_EFFECT: Final = (OpResult.DONE, OpResult.ACCEPTED)


def operation_answer(
    op: Op, result: OpResult | Incompatible, invocation_id: str
) -> tuple[int, str]:
    """Status and message; the message is empty where the body is."""
    if isinstance(result, Incompatible):
        return 400, _incompatible(result, invocation_id)
    status, text = _SPECIAL.get((op, result)) or _USUAL[result]
    return status, text.format(invocation_id)


def restart_refusal(result: OpResult | Incompatible, invocation_id: str) -> tuple[int, str]:
    """Status and message of a restart that was refused."""
    if isinstance(result, Incompatible):
        return 400, _incompatible(result, invocation_id)
    status, text = _RESTART[result]
    return status, text.format(invocation_id)


def batch_error(op: str, result: OpResult | Incompatible, invocation_id: str) -> str:
    """Why one of a batch failed; empty where it did not. ``op``: an `Op`, or ``RESTART``."""
    if isinstance(result, Incompatible):
        return _incompatible(result, invocation_id)
    if result in _IN_EFFECT:
        return ""
    text = _BATCH_SPECIAL.get((op, result)) or _BATCH[result]
    return text.format(invocation_id)


def _incompatible(found: Incompatible, invocation_id: str) -> str:
    return _INCOMPATIBLE.format(
        invocation_id, found.version, found.deployment_id, found.oldest, found.newest
    )
