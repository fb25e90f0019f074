"""From the settings to what reaches deployments: transports, address guard, signing key, registry.

The one place that reads the key file. What each part does is in its own file. HTTP/2 and cryptography load
when they are first needed: they are a twelfth of every start otherwise.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from perdure.actors.remote.addresses import AddressGuard
from perdure.actors.remote.deployments import RemoteOptions
from perdure.actors.remote.http1 import Http1Options, Http1Transport
from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.port import Headers, Transport
from perdure.gateway.deployments import Registrar
from perdure.gateway.discovery import Discovery
from perdure.gateway.registry_file import RegistryFile
from perdure.gateway.settings import Deployments, Settings, SettingsError

if TYPE_CHECKING:
    from perdure.actors.remote.identity import Signer

log = logging.getLogger("perdure.deployments")

R = TypeVar("R", bound=Registrar)

_CLUSTER_HEADER: Final = "x-restate-cluster-name"


class Remote:
    """Everything about deployments that the settings decide. Raises SettingsError where they can't hold."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        given = settings.deployments
        self.signer = _signer(given.identity_key_file)
        self._guard = _guard(given)
        self._trust = _trust(given.tls_ca_file)
        self._headers = _headers(given.cluster_name)
        self.options = RemoteOptions(
            newest_version=given.newest_protocol_version,
            message_limit_bytes=given.message_size_limit_bytes,
            signing=self.signer,
        )

    def registrar(
        self,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        kind: type[R],
    ) -> R:
        given, defaults = self._settings.deployments, self._settings.defaults()
        discovery = Discovery(
            defaults,
            newest_version=given.newest_protocol_version,
            timeout_s=given.discovery_timeout_ms / 1000,
            headers=self._headers,
            signing=self.signer,
            now_ms=now_ms,
        )
        return kind(
            RegistryFile(self._settings.data),
            discovery,
            self.connect,
            defaults=defaults,
            headers=self._headers,
            now_ms=now_ms,
            random_bytes=random_bytes,
        )

    def connect(self, uri: str, *, http2: bool) -> Transport:
        """The transport to a deployment; it connects when it is used."""
        given = self._settings.deployments
        connect_timeout_s = given.connect_timeout_ms / 1000
        if http2:
            from perdure.actors.remote.http2_pool import Http2Transport

            options = Http2Options(
                connect_timeout_s=connect_timeout_s,
                ping_interval_s=given.ping_interval_ms / 1000,
                ping_timeout_s=given.ping_timeout_ms / 1000,
                max_connections=given.connections_limit,
                max_streams=given.streams_per_connection_limit,
            )
            return Http2Transport(
                uri, options=options, resolve=self._guard.resolve, tls=self._tls()
            )
        return Http1Transport(
            uri,
            resolve=self._guard.resolve,
            options=Http1Options(
                connections_limit=given.http1_connections_limit,
                connect_timeout_s=connect_timeout_s,
                tls=self._tls(),
            ),
        )

    def _tls(self) -> ssl.SSLContext | None:
        """One for each transport: what it offers in ALPN is set in it. None: what the system trusts."""
        if not self._trust:
            return None
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=self._trust)
        return context


def _signer(file: str) -> "Signer | None":
    if not file:
        return None
    from perdure.actors.remote.identity import BadKey, Signer

    where = f"the identity key file {file} ('deployments.identity_key_file')"
    try:
        signer = Signer(Path(file).read_bytes())
    except OSError as e:
        raise SettingsError(f"{where} cannot be read: {e.strerror}") from e
    except BadKey as e:
        raise SettingsError(f"{where} is no key: {e}") from e
    log.info("requests to deployments are signed; their public key is %s", signer.key_id)
    return signer


def _trust(file: str) -> str:
    if not file:
        return ""
    where = f"the file of authorities {file} ('deployments.tls_ca_file')"
    try:
        pem = Path(file).read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as e:
        raise SettingsError(f"{where} has no certificate in PEM form: {e}") from e
    except OSError as e:
        raise SettingsError(f"{where} cannot be read: {e.strerror}") from e
    return pem


def _guard(given: Deployments) -> AddressGuard:
    try:
        return AddressGuard(given.allow, given.deny)
    except ValueError as e:
        raise SettingsError(f"bad value for 'deployments.allow' or 'deployments.deny': {e}") from e


def _headers(cluster_name: str) -> Headers:
    if not (cluster_name.isascii() and cluster_name.isprintable()):
        raise SettingsError(
            f"'deployments.cluster_name' is {cluster_name!r}; expected visible ASCII, as it is a header"
        )
    return ((_CLUSTER_HEADER, cluster_name),) if cluster_name else ()
