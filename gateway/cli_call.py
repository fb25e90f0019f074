"""`perdure call`: one request to the ingress."""

import json
import sys
from typing import Any
from urllib.parse import urlencode

import click
import httpx

from perdure.gateway.cli_http import (
    EPILOG,
    error_text,
    failure,
    ingress_option,
    json_option,
    request,
    segment,
    write_json,
)
from perdure.gateway.durations import parse_duration_ms
from perdure.gateway.logs import escape


@click.command(epilog=EPILOG)
@click.argument("target", metavar="SERVICE[/KEY]/HANDLER")
@click.argument("body", required=False, metavar="[JSON]")
@click.option("--send", is_flag=True, help="Do not wait for the answer.")
@click.option(
    "--delay", metavar="DURATION", help="With --send: start later, such as '10s' or '1h 30m'."
)
@click.option("--idempotency-key", metavar="KEY", help="Requests with the same key run once.")
@ingress_option
@json_option
def call(
    target: str,
    body: str | None,
    send: bool,
    delay: str | None,
    idempotency_key: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Call a handler and write its answer. JSON is its input; `-` reads it from standard input.

    The key is taken as it stands: it may hold slashes and spaces.
    """
    path = _path(target, "send" if send else "call")
    if delay is not None:
        path += "?" + urlencode({"delay": _delay(delay, send)})
    content = _content(body)
    headers = {} if content is None else {"content-type": "application/json"}
    if idempotency_key is not None:
        headers["idempotency-key"] = _header(idempotency_key)
    response = request("POST", url, path, content=content, headers=headers, read_timeout_s=None)
    if as_json:
        write_json(_document(response))
    elif response.is_success:
        _write_body(response.content)
    if not response.is_success or "x-restate-error-source" in response.headers:
        _fail(response, url, as_json)


def _path(target: str, verb: str) -> str:
    service, slash, rest = target.partition("/")
    key, has_key, handler = rest.rpartition("/")
    if not slash or not service or not handler:
        raise click.UsageError(
            f"'{target}' is not SERVICE/HANDLER or SERVICE/KEY/HANDLER, such as Counter/alice/add"
        )
    parts = (service, key, handler) if has_key else (service, handler)
    return f"/restate/{verb}/" + "/".join(segment(each) for each in parts)


def _delay(text: str, send: bool) -> str:
    if not send:
        raise click.UsageError("--delay needs --send: a call that waits starts at once")
    try:
        parse_duration_ms(text)
    except ValueError as e:
        raise click.UsageError(f"--delay: {e}") from e
    return text


def _header(key: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise click.UsageError("--idempotency-key may only hold visible ASCII characters")
    return key


def _content(body: str | None) -> bytes | None:
    if body is None:
        return None
    raw = sys.stdin.buffer.read() if body == "-" else body.encode()
    try:
        json.loads(raw)
    except ValueError as e:
        raise click.UsageError(
            f"the input is not JSON: {e}. Texts need double quotes inside the shell's single ones, "
            "such as '\"Bob\"'."
        ) from e
    return raw


def _document(response: httpx.Response) -> dict[str, Any]:
    """What `--json` writes: status, invocation id, and the answer as JSON or text."""
    document: dict[str, Any] = {"status": response.status_code}
    if "x-restate-id" in response.headers:
        document["invocation_id"] = response.headers["x-restate-id"]
    is_error = not response.is_success or "x-restate-error-source" in response.headers
    try:
        answer = response.json() if response.content else None
    except ValueError:
        answer = response.text
    return document | {"error" if is_error else "result": answer}


def _write_body(body: bytes) -> None:
    """Raw where it is piped; on a terminal nothing in it may act as a command to the terminal."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        if body and not body.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    elif body:
        lines = body.decode("utf-8", "replace").removesuffix("\n").split("\n")
        click.echo("\n".join(escape(line) for line in lines))


def _fail(response: httpx.Response, url: str, as_json: bool) -> None:
    error = failure(response, f"{error_text(response, url)} ({response.status_code})")
    if as_json:  # the document has said it
        raise click.exceptions.Exit(error.exit_code)
    raise error
