"""Asks a deployment what it serves: `GET {base}/discover`, with retries, and what its answer must be.

What the manifest in the answer says is read by gateway/manifest.py; nothing is registered here. The text of
an answer is never repeated to whoever registers (reliability S5). Rules: service protocol 1.1 and 1.2.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.actors.remote.addresses import AddressRefused
from perdure.actors.remote.deployments import Signing
from perdure.actors.remote.fetch import Response, fetch
from perdure.actors.remote.port import Headers, Http1Only, HttpRequest, Transport, TransportFailed
from perdure.gateway.deployment_errors import DeploymentRefused, coded
from perdure.gateway.deployment_requests import Connect
from perdure.gateway.deployment_uri import Address
from perdure.gateway.manifest import Manifest, read_manifest
from perdure.journal.schema import Defaults
from perdure.journal.wire.versions import OLDEST, negotiate

HTTP2: Final = "HTTP/2.0"
HTTP1: Final = "HTTP/1.1"

log = logging.getLogger("perdure.discovery")

_PATH: Final = "/discover"
_MANIFESTS: Final = tuple(
    f"application/vnd.restate.endpointmanifest.v{version}+json" for version in range(1, 6)
)
_ACCEPT: Final = ", ".join(_MANIFESTS)
_BODY_LIMIT_BYTES: Final = 4 << 20
_RETRY_DELAYS_S: Final = (0.1, 0.2, 0.4, 0.8)
_RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
_NOT_FOUND: Final = 404
_PROBE_TIMEOUT_S: Final = 2.0
_BROKEN_SDKS: Final = tuple(f"restate-sdk-typescript/1.{minor}." for minor in range(3))
_BROKEN_SDK_NEWEST: Final = 1  # they claim to speak versions that they do not


class Discovered(msgspec.Struct, frozen=True):
    manifest: Manifest
    sdk_version: str | None


class Reached(msgspec.Struct, frozen=True):
    found: Discovered
    transport: Transport
    http_version: str


class Discovery:
    """How this server asks. ``headers`` go with every request, before those of a deployment."""

    def __init__(
        self,
        defaults: Defaults,
        *,
        newest_version: int,
        timeout_s: float,
        headers: Headers = (),
        signing: Signing | None = None,
        now_ms: Callable[[], int],
    ) -> None:
        self._defaults = defaults
        self._newest_version = newest_version
        self._timeout_s = timeout_s
        self._headers = headers
        self._signing = signing
        self._now_ms = now_ms

    async def reach(
        self, connect: Connect, address: Address, headers: Headers, http1: bool
    ) -> Reached:
        """Connect and ask; over HTTP/1.1, too, where TLS tells that the endpoint speaks nothing else.

        The transport is the caller's to close. Raises what ``discover`` raises.
        """

        def over_http1() -> Transport:
            return connect(address.uri, http2=False)

        transport = over_http1() if http1 else connect(address.uri, http2=True)
        try:
            found = await self.discover(transport, address, headers, None if http1 else over_http1)
        except BaseException as error:
            await transport.close()
            if isinstance(error, Http1Only):
                return await self.reach(connect, address, headers, http1=True)
            raise
        return Reached(found, transport, HTTP1 if http1 else HTTP2)

    async def discover(
        self,
        transport: Transport,
        address: Address,
        headers: Headers = (),
        http1: Callable[[], Transport] | None = None,
    ) -> Discovered:
        """Raises DeploymentRefused with META0003, 5, 12, 13, 14, and Http1Only.

        ``http1`` makes a transport over HTTP/1.1 to the same address, to find out whether the endpoint
        speaks that alone.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._ask(transport, address, headers, http1)
        except TimeoutError:
            seconds = f"{self._timeout_s:g} s ('deployments.discovery_timeout')"
            raise self._failed(address, f"no usable answer within {seconds}") from None
        return self._read(response)

    async def _ask(
        self,
        transport: Transport,
        address: Address,
        headers: Headers,
        http1: Callable[[], Transport] | None,
    ) -> Response:
        delays = iter(_RETRY_DELAYS_S)
        while True:
            try:
                response = await self._fetch(transport, address, headers)
            except TransportFailed as e:
                reason = str(e)
                if _is_because_of(AddressRefused, e):
                    raise self._failed(address, reason) from None
                if _is_because_of(Http1Only, e):
                    raise Http1Only(reason) from None
                if _is_because_of(ssl.SSLCertVerificationError, e):
                    reason += "; an authority of your own is named in 'deployments.tls_ca_file'"
                    raise self._failed(address, reason) from None
                if http1 is not None:
                    await self._probe(http1(), address, headers)
                    http1 = None  # once is enough
            else:
                if response.status not in _RETRYABLE:
                    return self._checked(response, address)
                reason = f"it answered with status {response.status}"
            delay_s = next(delays, None)
            if delay_s is None:
                raise self._failed(address, reason)
            log.debug("discovery of %s: %s; again in %.1f s", address.uri, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _fetch(self, transport: Transport, address: Address, headers: Headers) -> Response:
        signature: Headers = ()
        if self._signing is not None:  # anew for each try: a signature is good for a minute
            signature = self._signing.headers(_PATH, None, self._now_ms() // 1000)
        request = HttpRequest(
            "GET",
            address.path(_PATH),
            (("accept", _ACCEPT), *signature, *self._headers, *headers),
        )
        return await fetch(
            transport, request, limit_bytes=_BODY_LIMIT_BYTES, timeout_s=self._timeout_s
        )

    async def _probe(self, transport: Transport, address: Address, headers: Headers) -> None:
        """Raises META0014 where the endpoint answers over HTTP/1.1, in place of HTTP/2."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                response = await self._fetch(transport, address, headers)
        except (TransportFailed, TimeoutError):
            return
        finally:
            await transport.close()
        raise coded(
            500,
            "META0014",
            f"error when calling '{address.uri}': the endpoint does not speak HTTP/2, but answers over "
            f'HTTP/1.1 (status {response.status}); register it with "use_http_11": true, or serve it '
            "with a server that speaks HTTP/2 with prior knowledge, such as hypercorn",
        )

    def _checked(self, response: Response, address: Address) -> Response:
        if 200 <= response.status < 300:
            return response
        if response.status == _NOT_FOUND:
            reason = (
                f"status 404 at {address.path(_PATH)}; is the app mounted below another path? Then the "
                "uri has to contain it; of an app that is hosted here, name the inner one (FILE.py:NAME)"
            )
        elif response.status in (401, 403):
            reason = f"status {response.status}; does the endpoint expect another identity key?"
        else:
            reason = f"it answered with status {response.status}; redirects are not followed"
        raise self._failed(address, reason)

    def _failed(self, address: Address, reason: str) -> DeploymentRefused:
        return coded(500, "META0003", f"error when calling '{address.uri}': {reason}")

    def _read(self, response: Response) -> Discovered:
        content_type = response.find_header("content-type")
        if content_type not in _MANIFESTS:
            found = "none" if content_type is None else "another one"
            raise coded(
                500,
                "META0013",
                "unusable discovery response: expected a content type "
                f"application/vnd.restate.endpointmanifest.vN+json, N from 1 to 5, found {found}; is there "
                "an endpoint of an SDK at this address?",
            )
        manifest = read_manifest(response.body, self._defaults)
        sdk_version = response.find_header("x-restate-server")
        newest = manifest.newest
        if sdk_version is not None and sdk_version.startswith(_BROKEN_SDKS):
            newest = _BROKEN_SDK_NEWEST
        if newest < manifest.oldest or not self._is_spoken(manifest.oldest, newest):
            raise coded(
                500,
                "META0012",
                f"unsupported service protocol: this server speaks versions {OLDEST} to "
                f"{self._newest_version}, the endpoint {manifest.oldest} to {newest}; update the older "
                "one of the two",
            )
        return Discovered(manifest, sdk_version)

    def _is_spoken(self, oldest: int, newest: int) -> bool:
        return negotiate(oldest, newest, self._newest_version) is not None


def _is_because_of(kind: type[Exception], error: BaseException | None) -> bool:
    """Whether an error of this kind is behind ``error``: transports wrap them in their own."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
