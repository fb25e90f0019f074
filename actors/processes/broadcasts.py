"""Who still has to hear what one worker tells all others. Pure; the supervisor sends."""

from typing import TypeAlias

Origin: TypeAlias = tuple[str, int, int]  # the sender's name, its epoch, its number for this


class Broadcasts:
    """A worker that ends has heard: what is told is also written, and read when it starts again."""

    def __init__(self) -> None:
        self._waiting: dict[Origin, set[str]] = {}

    def begin(self, origin: Origin, names: set[str]) -> list[Origin]:
        """Returns what is done by this, as do the others."""
        if not names:
            return [origin]
        self._waiting[origin] = set(names)
        return []

    def heard(self, origin: Origin, name: str) -> list[Origin]:
        names = self._waiting.get(origin)
        if names is None:
            return []
        names.discard(name)
        if names:
            return []
        del self._waiting[origin]
        return [origin]

    def gone(self, name: str) -> list[Origin]:
        for origin in [each for each in self._waiting if each[0] == name]:
            del self._waiting[origin]  # nobody waits for the end of it any more
        return [done for origin in list(self._waiting) for done in self.heard(origin, name)]
