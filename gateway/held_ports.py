"""Listening sockets that the gateways of a tree have by fork, from whoever started the tree.

Only under `perdure up --reload`, where one tree follows the other and callers in between wait. Elsewhere
each gateway listens by itself, and the kernel spreads callers over them.
"""

from perdure.gateway import server
from perdure.gateway.settings import Settings

_held: server.Listeners | None = None


def leave(listeners: server.Listeners) -> None:
    """In the watchdog, before the first fork."""
    global _held
    _held = listeners


def of_gateway(settings: Settings, with_admin: bool) -> server.Listeners:
    """In a gateway, once. Raises SettingsError where the ports can't be had."""
    if _held is None:
        return server.listen(settings, is_shared=True, with_admin=with_admin)
    return server.Listeners(_held.ingress, _held.admin if with_admin else None)
