"""Logging in handlers: lines of a replay were logged before, so they are dropped."""

import logging

from perdure.replaying import restate_context_is_replaying


class RestateLoggingFilter(logging.Filter):
    """Drops records while the handler replays its journal, and what its base class drops."""

    def filter(self, record: logging.LogRecord) -> bool:
        return bool(super().filter(record)) and not restate_context_is_replaying.get()


_filter = RestateLoggingFilter()


def getLogger(name: str | None = None) -> logging.Logger:
    """The logger of that name, with the filter. Asking twice adds one filter."""
    logger = logging.getLogger(name)
    logger.addFilter(_filter)
    return logger
