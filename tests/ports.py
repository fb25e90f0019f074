"""Ports for servers that tests start: free ones, that nobody gets by accident until they are bound."""

from perdure.actors.processes.hygiene import free_port


def free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
