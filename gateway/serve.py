"""`perdure serve`: the user's services as a deployment, for whichever server they are registered with.

Nothing is stored here and no engine runs: handlers are driven by the server, over HTTP/2 (without TLS)
and HTTP/1.1 on one port. What answers is `perdure.asgi`; hypercorn carries it, and loads when it is used.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from perdure.definition import Definition
from perdure.embedded import flatten
from perdure.endpoint import App, Endpoint
from perdure.gateway import logs
from perdure.gateway.cli import EXIT_CODES
from perdure.gateway.settings import Log, SettingsError
from perdure.gateway.settings_sources import is_loopback
from perdure.gateway.targets import load_targets
from perdure.journal.errors import UsageError

if TYPE_CHECKING:
    from hypercorn.config import Config

log = logging.getLogger("perdure.serve")

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9080
_BACKLOG: Final = 4096
_STREAMS_PER_CONNECTION: Final = 1 << 20  # how many attempts run at once is for the server to say
_REQUESTS_PER_CONNECTION: Final = 1 << 30
_IDLE_CONNECTION_S: Final = 3600
_GRACE_S: Final = 10  # for attempts that still run when we are asked to stop


@click.command(epilog=EXIT_CODES)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True,
    help="0: any free port.",
)  # fmt: skip
@click.option(
    "--identity-key", "identity_keys", multiple=True, metavar="KEY",
    help="Accept only requests signed for this key (publickeyv1_...). May be repeated.",
)  # fmt: skip
def serve(targets: tuple[str, ...], host: str, port: int, identity_keys: tuple[str, ...]) -> None:
    """Serve the services in TARGET to a Perdure or Restate server elsewhere.

    The server learns of them by registration: POST /deployments at its admin port.
    """
    logs.configure(Log())
    try:
        app = combined(load_targets(list(targets)), identity_keys)
        app.serving  # noqa: B018 - what is wrong with the keys is told before a port is taken
        listener = listen(host, port)
    except (SettingsError, UsageError) as e:
        raise click.UsageError(str(e)) from e
    except OSError as e:
        raise click.UsageError(_explain(host, port, e)) from e
    if not is_loopback(host) and not app.endpoint.identity_keys:
        log.warning(
            "other machines that reach %s can run these handlers, with any argument; give the"
            " server's key as --identity-key, or let only the server through to this port",
            host,
        )
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(app, listener))


def combined(found: Sequence[App | Definition], identity_keys: tuple[str, ...] = ()) -> App:
    """One app with the services and settings of all. Raises UsageError where settings disagree."""
    definitions, codec = flatten(found)
    endpoint = Endpoint().bind(*definitions)  # type: ignore[arg-type]
    endpoint.journal_value_codec = codec
    for each in found:
        if isinstance(each, App):
            theirs = each.endpoint
            if theirs.protocol is not None and endpoint.protocol not in (None, theirs.protocol):
                raise UsageError(
                    "the apps ask for both protocols, 'bidi' and 'request_response'; serve each of"
                    " them on a port of its own"
                )
            endpoint.protocol = theirs.protocol or endpoint.protocol
            endpoint.identity_keys += theirs.identity_keys
    endpoint.identity_keys += identity_keys
    return endpoint.app()


def listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family, kind, proto, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _explain(host: str, port: int, error: OSError) -> str:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is already in use: stop the other process, or choose another --port"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {where}: choose a --port from 1024 up"
    return f"cannot listen on {where}: {error.strerror or error}"


async def _serve(app: App, listener: socket.socket) -> None:
    from hypercorn.asyncio import serve as serve_asgi

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    _tell(app, _url(listener))
    gc.collect()
    gc.freeze()  # what is loaded stays

    async def until_stopped() -> None:
        await stopping.wait()
        _say("Stopping: handlers that wait are suspended, others get a moment to end ...")
        app.serving.drain()

    await serve_asgi(app, _config(listener), shutdown_trigger=until_stopped)
    _say("Stopped.")


def _config(listener: socket.socket) -> "Config":
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = _BACKLOG
    config.h2_max_concurrent_streams = _STREAMS_PER_CONNECTION
    config.keep_alive_max_requests = _REQUESTS_PER_CONNECTION
    config.keep_alive_timeout = _IDLE_CONNECTION_S
    config.graceful_timeout = _GRACE_S
    config.include_date_header = False
    config.include_server_header = False
    config.loglevel = "WARNING"
    return config


def _tell(app: App, url: str) -> None:
    for name, service in sorted(app.services.items()):
        _say(f"{type(service).__name__:<14} {name}: {', '.join(service.handlers)}")
    _say(f"Endpoint {url} (HTTP/2 without TLS, HTTP/1.1)")
    _say(f'Register curl localhost:9070/deployments --json \'{{"uri": "{url}"}}\'')
    _say("Ready.")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)
