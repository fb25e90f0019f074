"""Attempts outside this process's own handlers: over HTTP/2, HTTP/1.1, or ASGI."""
