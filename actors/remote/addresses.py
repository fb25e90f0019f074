"""Which addresses a deployment may have: the guard between a registered name and a connection.

It looks at what a name resolves to, at each connection, so that neither a name that resolves anew nor an
unusual spelling of an address gets past it. Connecting is the transports' business.
Rules: reliability S5; the settings `deployments.allow` and `deployments.deny`.
"""

import asyncio
import ipaddress
import socket
from typing import Final, TypeAlias

from perdure.actors.remote.port import TransportFailed

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never a deployment, unless a range in the allow list names them.
_NEVER: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), meaning)
    for network, meaning in (
        ("169.254.0.0/16", "a link-local address, where clouds keep their metadata"),
        ("fe80::/10", "a link-local address"),
        ("100.100.100.200/32", "an address where a cloud keeps its metadata"),
        ("fd00:ec2::254/128", "an address where a cloud keeps its metadata"),
        ("0.0.0.0/8", "an unspecified address"),
        ("::/128", "an unspecified address"),
        ("224.0.0.0/4", "a multicast address"),
        ("ff00::/8", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # an old spelling of IPv4; holds ::1, too
_LOOPBACK6: Final = ipaddress.IPv6Address(1)


class AddressRefused(TransportFailed):
    """Trying again cannot help: a setting, or what an address is, forbids the connection."""


class AddressGuard:
    """Entries are ranges (`10.0.0.0/8`, `::1`), names (`app.example`) or suffixes (`.example`).

    What ``deny`` names is refused. If ``allow`` has entries, everything else is refused, too.
    Link-local, multicast, unspecified and metadata addresses are refused unless a range allows them.
    """

    def __init__(self, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> None:
        """Raises ValueError with the entry that is neither a range nor a name."""
        self._allowed, self._allowed_names = _parse(allow)
        self._denied, self._denied_names = _parse(deny)

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """The addresses of ``host`` that may be connected to. Raises TransportFailed, AddressRefused.

        Connect to what this returns; resolving the name again would open the gap that this closes.
        """
        loop = asyncio.get_running_loop()
        host = host.removeprefix("[").removesuffix("]")
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            reason = getattr(e, "strerror", None) or e
            raise TransportFailed(f"cannot resolve '{host}': {reason}") from e
        allowed: list[tuple[str, int]] = []
        refusal = f"'{host}' has no address"
        for _, _, _, _, where in found:
            text = str(where[0])
            reason = self.refusal(host, text)
            if reason is None:
                allowed.append((text, port))
            else:
                refusal = reason
        if not allowed:
            raise AddressRefused(refusal)
        return allowed

    def refusal(self, host: str, text: str) -> str | None:
        """Why ``host`` may not be reached at the address ``text``; None where it may. Pure."""
        name = host.rstrip(".").lower()
        readings = _readings(ipaddress.ip_address(text.partition("%")[0]))
        shown = f"'{host}'" if name == text else f"'{host}' ({text})"
        if _names(self._denied_names, name) or _within(self._denied, readings):
            return f"{shown} is refused by the setting 'deployments.deny'"
        in_range = bool(self._allowed) and all(_within(self._allowed, (each,)) for each in readings)
        is_limited = bool(self._allowed or self._allowed_names)
        if is_limited and not in_range and not _names(self._allowed_names, name):
            return f"{shown} is not in the list of the setting 'deployments.allow'"
        if in_range:
            return None
        for network, meaning in _NEVER:
            if _within((network,), readings):
                return (
                    f"{shown} is {meaning}, where no deployment can be; a range in the setting "
                    "'deployments.allow' would permit it"
                )
        return None


def _parse(entries: tuple[str, ...]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    ranges: list[Network] = []
    names: list[str] = []
    for entry in entries:
        text = entry.strip().lower()
        try:
            ranges.append(ipaddress.ip_network(text.removeprefix("[").removesuffix("]")))
            continue
        except ValueError as e:
            name = text.removeprefix("*").rstrip(".")
            is_name = name.lstrip(".") and all(c.isalnum() or c in "-_." for c in name)
            if not is_name or name.replace(".", "").isdigit():
                raise ValueError(
                    f"'{entry}' is neither a range such as 10.0.0.0/8 nor a name such as app.example "
                    f"or .example ({e})"
                ) from None
            names.append(name)
    return tuple(ranges), tuple(names)


def _names(patterns: tuple[str, ...], name: str) -> bool:
    return any(name == each or (each[0] == "." and name.endswith(each)) for each in patterns)


def _readings(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 addresses that it carries: a packet may well end there."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    carried: list[Address] = [address]
    if address.sixtofour is not None:
        carried.append(address.sixtofour)
    if address.teredo is not None:
        carried += address.teredo
    is_old = address in _COMPATIBLE and int(address) > int(_LOOPBACK6)
    if address in _NAT64 or is_old:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(carried)


def _within(ranges: tuple[Network, ...], readings: tuple[Address, ...]) -> bool:
    return any(
        each.version == network.version and each in network
        for network in ranges
        for each in readings
    )
