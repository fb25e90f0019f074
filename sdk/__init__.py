"""Durable virtual objects for Python. Public names, nothing else.

Names that need httpx or a running engine are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perdure.client_types import (
    HttpError,
    InvocationOutput,
    RestateClient,
    RestateClientSendHandle,
)
from perdure.context import (
    Context,
    DurablePromise,
    ObjectContext,
    ObjectSharedContext,
    RestateDurableCallFuture,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    RunOptions,
    ScopedContext,
    SendHandle,
    WorkflowContext,
    WorkflowSharedContext,
)
from perdure.endpoint import app
from perdure.entry_codec import JournalValueCodec, JournalValueCodecProvider
from perdure.exceptions import (
    RetryableError,
    SdkInternalBaseException,
    TerminalError,
    UsageError,
    is_internal_exception,
)
from perdure.logging import RestateLoggingFilter, getLogger
from perdure.object import VirtualObject
from perdure.retry_policy import InvocationRetryPolicy
from perdure.service import Service
from perdure.types import HarnessEnvironment
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure import logging, testing
    from perdure.asyncio import as_completed, gather, select, wait_completed
    from perdure.blocking import BlockingContext
    from perdure.client import Client, create_client
    from perdure.embedded import open
    from perdure.harness import create_test_harness, test_harness
    from perdure.schedules import schedule

_LAZY = {
    "as_completed": "perdure.asyncio",
    "gather": "perdure.asyncio",
    "select": "perdure.asyncio",
    "wait_completed": "perdure.asyncio",
    "BlockingContext": "perdure.blocking",
    "Client": "perdure.client",
    "create_client": "perdure.client",
    "open": "perdure.embedded",
    "create_test_harness": "perdure.harness",
    "test_harness": "perdure.harness",
    "schedule": "perdure.schedules",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("perdure.testing")
    if name not in _LAZY:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


__all__ = [
    "BlockingContext",
    "Client",
    "Context",
    "DurablePromise",
    "HarnessEnvironment",
    "HttpError",
    "InvocationOutput",
    "InvocationRetryPolicy",
    "JournalValueCodec",
    "JournalValueCodecProvider",
    "ObjectContext",
    "ObjectSharedContext",
    "RestateClient",
    "RestateClientSendHandle",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RestateLoggingFilter",
    "RetryableError",
    "RunOptions",
    "ScopedContext",
    "SdkInternalBaseException",
    "SendHandle",
    "Service",
    "TerminalError",
    "UsageError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "app",
    "as_completed",
    "create_client",
    "create_test_harness",
    "gather",
    "getLogger",
    "is_internal_exception",
    "logging",
    "open",
    "schedule",
    "select",
    "test_harness",
    "testing",
    "wait_completed",
]
