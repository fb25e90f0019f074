"""Structured logs on standard error: human lines or JSON lines, one record a line.

Records carry ``invocation_id``, ``target``, ``attempt`` and ``trace_id``: a handler's lines by
themselves, others by ``logger.info(..., extra={...})``; ``stacktrace`` is shown as a traceback. What a
replay logs is dropped.
What users or callers wrote never reaches a terminal raw: control characters are escaped, and a
traceback is indented so that no line of it can pass for a record. Source: reliability S17.
"""

import logging
import sys
import time
from typing import Final, TextIO

import msgspec

from perdure.gateway.settings import Log, LogFormat
from perdure.logcontext import FIELDS, InvocationFields
from perdure.logging import RestateLoggingFilter

_TRACEBACK_INDENT: Final = "    | "
_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(32),
        *range(127, 160),
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}

_encode = msgspec.json.Encoder().encode


def escape(text: str) -> str:
    """``text`` without anything that moves a cursor, ends a line or turns writing around."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def configure(settings: Log, stream: TextIO | None = None) -> None:
    """Send everything from ``settings.level`` up to ``stream`` (standard error); replaces handlers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    is_json = settings.format is LogFormat.JSON
    handler.setFormatter(JsonFormatter() if is_json else HumanFormatter())
    handler.addFilter(InvocationFields())
    handler.addFilter(RestateLoggingFilter())  # what a replay logs was logged before
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # Their debug lines would be ours a second time.
    for noisy in ("asyncio", "aiohttp", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class HumanFormatter(logging.Formatter):
    """`2026-11-22 10:00:00.123 INFO  perdure.x: message [target=... invocation_id=...]`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        line = (
            f"{moment}.{int(record.msecs):03} {record.levelname:<7} {record.name}: "
            f"{escape(record.getMessage())}"
        )
        fields = _fields(record)
        if fields:
            shown = " ".join(f"{name}={escape(str(value))}" for name, value in fields.items())
            line += f" [{shown}]"
        trace = self._trace(record)
        if trace:
            lines = (escape(each) for each in trace.split("\n"))
            line += "".join(f"\n{_TRACEBACK_INDENT}{each}" for each in lines)
        return line

    def _trace(self, record: logging.LogRecord) -> str:
        parts = []
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        if stacktrace := getattr(record, "stacktrace", ""):  # of another thread, or of an attempt
            parts.append(stacktrace.rstrip("\n"))
        return "\n".join(parts)


class JsonFormatter(HumanFormatter):
    """One JSON object a line: time, level, logger, message, the fields, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        milliseconds = int(record.created * 1000)
        seconds, rest = divmod(milliseconds, 1000)
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        line |= {name: _json_value(value) for name, value in _fields(record).items()}
        trace = self._trace(record)
        if trace:
            line["traceback"] = _encodable(trace)
        return _encode(line).decode()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name in FIELDS if (value := getattr(record, name, None))}


def _json_value(value: object) -> object:
    return value if isinstance(value, int) else _encodable(str(value))


def _encodable(text: str) -> str:
    """Lone surrogates, as undecodable bytes become in Python, cannot be JSON."""
    return text.encode("utf-8", "backslashreplace").decode()
