"""Starts and stops the two HTTP servers on an asyncio loop (uvloop, where the caller runs one).

Binds sockets, drains, cuts. Routes are in ingress.py and admin.py. The caller starts the engine
first, so that whoever reaches a port is answered by something that is ready.
"""

import asyncio
import errno
import logging
import socket
import ssl
from typing import Final, NamedTuple

from aiohttp import http_parser, web

from perdure.actors.loop_lag import LoopLag
from perdure.gateway.admin import Admin
from perdure.gateway.admin_access import Access
from perdure.gateway.bodies import WebRequest
from perdure.gateway.connections import Server
from perdure.gateway.console.meter import Meter
from perdure.gateway.deployments import Registrar
from perdure.gateway.ingress import Ingress
from perdure.gateway.operator_book import OperatorBook
from perdure.gateway.settings import Settings, SettingsError
from perdure.gateway.settings_sources import split_address
from perdure.gateway.sql.workers import Workers, workers_of
from perdure.gateway.versions import Versions
from perdure.journal.requests import Runtime

_BACKLOG: Final = 4096

_Port = tuple[Server, socket.socket, ssl.SSLContext | None]

log = logging.getLogger("perdure.gateway.server")


class Listeners(NamedTuple):
    """The sockets of both ports, bound and listening: who connects waits until somebody accepts.

    ``admin`` None: a gateway besides the first, which serves the ingress alone.
    """

    ingress: socket.socket
    admin: socket.socket | None

    def close(self) -> None:
        self.ingress.close()
        if self.admin is not None:
            self.admin.close()


def listen(
    settings: Settings, *, is_shared: bool = False, with_admin: bool = True, backlog: int = _BACKLOG
) -> Listeners:
    """Take both ports. Raises SettingsError when an address cannot be had.

    ``is_shared``: with other processes of this user, which listen on the same ports. ``backlog`` 0: hold the
    ports without listening.
    """
    ingress = _listen("ingress", settings.ingress.bind, is_shared, backlog)
    if not with_admin:
        return Listeners(ingress, None)
    try:
        return Listeners(ingress, _listen("admin", settings.admin.bind, is_shared, backlog))
    except SettingsError:
        ingress.close()
        raise


class Gateway:
    """Both servers, listening. Stop it before the engine: callers still wait for their answers."""

    def __init__(
        self,
        runners: list[web.ServerRunner],
        servers: list[Server],
        ingress_url: str,
        admin_url: str,
        lag: LoopLag,
        queries: Workers | None,
    ) -> None:
        self._runners = runners
        self._queries = queries
        self._lag = lag
        self.servers = servers
        self.ingress_url = ingress_url
        self.admin_url = admin_url

    async def stop(self) -> None:
        """Accept nothing new, let requests finish for the shutdown timeout, then cut them.

        A call that is cut goes on: only its caller has to attach again.
        """
        self._lag.stop()
        for server in self.servers:
            server.is_draining = True
            await server.stop_sweeping()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        if self._queries is not None:
            await self._queries.close()


async def start(
    runtime: Runtime,
    settings: Settings,
    registrar: Registrar | None = None,
    book: OperatorBook | None = None,
    listeners: Listeners | None = None,
    versions: Versions | None = None,
) -> Gateway:
    """Listen on both ports. Raises SettingsError when an address cannot be had.

    ``registrar``: None where no deployment can be registered. ``book``: None keeps what operators set up
    in memory. ``listeners``: sockets that somebody else holds as well; None: make them. ``versions``: None
    where code is served without them.
    """
    _require_the_c_parser()
    access = Access(settings.admin)
    sockets = listen(settings) if listeners is None else listeners
    ingress_url, admin_url = _url(sockets.ingress, None), ""
    meter, lag, queries = Meter(), LoopLag(), None
    lag.start()
    ingress = meter.timed(Ingress(runtime, settings.ingress).handle)

    async def plain(request: web.BaseRequest) -> web.StreamResponse:
        return await ingress(WebRequest(request))

    ports: list[_Port] = [(Server(plain, settings.ingress, ingress), sockets.ingress, None)]
    if sockets.admin is not None:
        admin_url = _url(sockets.admin, access.tls)
        queries = workers_of(runtime, settings, registrar, book)
        admin = Admin(
            runtime, settings, ingress_url, registrar, meter, book, lag, queries, versions
        )
        ports.append((Server(admin.handle, settings.ingress), sockets.admin, access.tls))
    runners = []
    for server, each, tls in ports:
        # aiohttp waits twice: for the handlers, then for each connection
        timeout_s = settings.engine.shutdown_timeout_ms / 2000
        runner = web.ServerRunner(server, shutdown_timeout=timeout_s)
        await runner.setup()
        await web.SockSite(runner, each, backlog=_BACKLOG, ssl_context=tls).start()
        server.start_sweeping()
        runners.append(runner)
    servers = [server for server, _, _ in ports]
    return Gateway(runners, servers, ingress_url, admin_url, lag, queries)


def _require_the_c_parser() -> None:
    """aiohttp's Python parser is slower and had request smuggling bugs that the C one had not."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise SettingsError(
            "aiohttp runs without its C extensions; unset AIOHTTP_NO_EXTENSIONS, or install a wheel "
            "of aiohttp that is built for this platform"
        )


def check_addresses(settings: Settings) -> None:
    """Raises SettingsError where both ports are one, or the admin API is open to other machines."""
    _, port = split_address(settings.ingress.bind)
    if port and settings.ingress.bind == settings.admin.bind:
        raise SettingsError(
            f"ingress and admin API are both to listen on {settings.admin.bind}: give them different "
            "ports with --ingress and --admin, or 'ingress.bind' and 'admin.bind'"
        )
    Access(settings.admin)


def _listen(name: str, address: str, is_shared: bool, backlog: int) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as e:
        raise SettingsError(f"cannot listen on {address} ('{name}.bind'): {e}") from e
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        if backlog:
            sock.listen(backlog)
    except OSError as e:
        sock.close()
        raise SettingsError(_explain(name, address, e)) from e
    sock.setblocking(False)
    return sock


def _explain(name: str, address: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{address} is already in use: stop the other process (perhaps another 'perdure up'), "
            f"or choose another port with --{name} HOST:PORT or the setting '{name}.bind'"
        )
    if error.errno == errno.EACCES:
        return f"no permission to listen on {address}: choose a port from 1024 up for '{name}.bind'"
    return f"cannot listen on {address} ('{name}.bind'): {error.strerror}"


def _url(sock: socket.socket, tls: ssl.SSLContext | None) -> str:
    host, port = sock.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
