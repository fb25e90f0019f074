"""What the client commands share: one HTTP request, its errors as exit codes, tables and JSON out.

Whatever a server or a user wrote is escaped before it reaches a terminal (reliability S17).
"""

import json
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click
import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.gateway.cli import EXIT_CODES, CannotConnect, Failure, NotFound
from perdure.gateway.logs import escape

NOT_FOUND: Final = 404
_CONNECT_TIMEOUT_S: Final = 3.0
_ADMIN_TIMEOUT_S: Final = 30.0
_MACHINE_WIDTH: Final = 200  # of tables that are piped somewhere

F = TypeVar("F", bound=Callable[..., object])

json_option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON document, for machines."
)
_url_option: Callable[[F], F] = click.option(
    "--url", envvar="PERDURE_ADMIN_URL", default="http://127.0.0.1:9070", show_default=True,
    metavar="URL", help="The admin API of the server. [env: PERDURE_ADMIN_URL]",
)  # fmt: skip
_TOKEN: Final = "perdure.gateway.cli_http.token"


def _remember_token(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """For ``request``, so that no command has to hand it on."""
    if value is not None:
        context.meta[_TOKEN] = value.strip()


token_option: Callable[[F], F] = click.option(
    "--token", envvar=["PERDURE_ADMIN_TOKEN", "PERDURE_ADMIN__TOKEN"], metavar="TOKEN",
    expose_value=False, callback=_remember_token,
    help="The admin API's token, where it has one. [env: PERDURE_ADMIN_TOKEN]",
)  # fmt: skip


def admin_option(command: F) -> F:
    """`--url` and `--token`; the command gets the ``url``."""
    return _url_option(token_option(command))


ingress_option: Callable[[F], F] = click.option(
    "--url", envvar="PERDURE_INGRESS_URL", default="http://127.0.0.1:8080", show_default=True,
    metavar="URL", help="The ingress of the server. [env: PERDURE_INGRESS_URL]",
)  # fmt: skip
EPILOG: Final = EXIT_CODES


def segment(text: str) -> str:
    """``text`` as one path segment: nothing in it ends the segment or names another one."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _tls(url: str) -> ssl.SSLContext:
    """Plain http needs no certificates, and loading them takes longer than the command."""
    if url.startswith("https:"):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def request(
    method: str,
    url: str,
    path: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    read_timeout_s: float | None = _ADMIN_TIMEOUT_S,
) -> httpx.Response:
    """Send one request; any answer is returned. Raises Failure where none comes."""
    timeout = httpx.Timeout(read_timeout_s, connect=_CONNECT_TIMEOUT_S)
    headers = with_token(headers)
    # a slash-free base and an encoded path: httpx leaves percent signs in it alone
    try:
        with httpx.Client(timeout=timeout, trust_env=False, verify=_tls(url)) as client:
            return client.request(
                method, url.rstrip("/") + path, content=content, headers=headers, params=params
            )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
        raise click.UsageError(f"'{url}' is not a URL such as http://127.0.0.1:9070: {e}") from e
    except (httpx.ConnectError, httpx.ConnectTimeout) as e:
        raise CannotConnect(
            f"cannot connect to {url}: {e}\nIs the server running? Start it with 'perdure up', or "
            "name another one with --url."
        ) from e
    except httpx.HTTPError as e:
        reason = str(e) or type(e).__name__
        raise CannotConnect(f"the connection to {url} broke: {reason}") from e


def with_token(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The headers of a request to the admin API, with the token that the command was given."""
    context = click.get_current_context(silent=True)
    token = None if context is None else context.meta.get(_TOKEN)
    return headers if token is None else {"authorization": f"Bearer {token}", **(headers or {})}


def admin(
    method: str,
    url: str,
    path: str,
    *,
    content: bytes | None = None,
    params: Mapping[str, str] | None = None,
) -> Any:
    """One request to the admin API; the JSON of the answer, None where it is empty."""
    headers = None if content is None else {"content-type": "application/json"}
    response = request(method, url, path, content=content, headers=headers, params=params)
    if response.is_success:
        return json_of(response, url)
    if b'"source":"ingress"' in response.content:
        raise Failure(f"{url} is the ingress of a server; this command needs its admin API")
    raise failure(response, error_text(response, url))


def json_of(response: httpx.Response, url: str) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as e:
        raise Failure(f"{url} did not answer with JSON; is it a Perdure server?") from e


def failure(response: httpx.Response, message: str) -> Failure:
    return NotFound(message) if response.status_code == NOT_FOUND else Failure(message)


def error_text(response: httpx.Response, url: str) -> str:
    """The message of an error answer, however it is wrapped."""
    try:
        body = response.json()
        text = body["message"] if isinstance(body, dict) else ""
    except (ValueError, KeyError):
        text = response.text
    text = str(text) or f"{url} answered {response.status_code}; is it the right port?"
    return lines(text)


def lines(text: str) -> str:
    """Harmless on a terminal; further lines are indented, so that none can pass for one of ours."""
    return "\n  ".join(map(escape, text.split("\n")))


# ---- output --------------------------------------------------------------------------------------


def write_json(value: object) -> None:
    """One document; everything beyond ASCII is escaped, so it is harmless on a terminal too."""
    click.echo(json.dumps(value, indent=2))


def write_table(columns: Iterable[str], rows: Iterable[Iterable[object]], empty: str) -> None:
    """A table on standard output, or the sentence ``empty``."""
    cells = [[Text(escape("" if each is None else str(each))) for each in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_MACHINE_WIDTH)
    console.print(table)


def write_fields(fields: Mapping[str, object]) -> None:
    """`name  value` lines; fields without a value are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "")}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {lines(str(value))}")


def value_text(value: Mapping[str, Any]) -> str:
    """A value of the admin API: its JSON where it is JSON, else its base64; `empty` for no bytes."""
    if "json" in value:
        return json.dumps(value["json"])
    return f"base64:{value['base64']}" if value["base64"] else "empty"


def query_rows(url: str, query: str) -> list[dict[str, Any]]:
    """What an SQL query gives. Raises Failure."""
    response = request(
        "POST",
        url,
        "/query",
        content=json.dumps({"query": query}).encode(),
        headers={"content-type": "application/json", "accept": "application/json"},
        read_timeout_s=None,
    )
    if not response.is_success:
        raise failure(response, error_text(response, url))
    found = json_of(response, url)
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise Failure(f"{url} did not answer with rows; is it a Perdure server?")
    return rows
