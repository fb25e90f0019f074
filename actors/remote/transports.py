"""Which transport leads to a deployment over the network. Nothing else may live here."""

from perdure.actors.remote.http1 import Http1Transport
from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_pool import Http2Transport
from perdure.actors.remote.origin import Resolve
from perdure.actors.remote.port import Transport

_DEFAULT_OPTIONS = Http2Options()


def make_transport(
    uri: str,
    *,
    http2: bool,
    options: Http2Options = _DEFAULT_OPTIONS,
    resolve: Resolve | None = None,
) -> Transport:
    """The transport to the origin of ``uri``; its path is the requests' business. Raises ValueError."""
    if http2:
        return Http2Transport(uri, options=options, resolve=resolve)
    return Http1Transport(uri, resolve=resolve)
