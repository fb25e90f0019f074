"""What a system base must know of an actor class before it makes one: may it run here, what is it given.

One inspection per class, cached. How actors live is ``actors/base.py``.
"""

import inspect
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from thespian.actors import Actor, InvalidActorSpecification, NoCompatibleSystemForActor

# actorSystemCapabilityCheck(capabilities, requirements), as Thespian names it.
Check = Callable[[dict[str, Any], dict[str, Any]], bool]

_log = logging.getLogger("perdure.actors")


class ActorClasses:
    """The classes that actors were asked for, under the capabilities of this system."""

    def __init__(self, capabilities: dict[str, Any]) -> None:
        self.capabilities = capabilities
        self._known: dict[type, tuple[Check | None, tuple[str, ...]]] = {}

    def require(self, cls: type, requirements: dict[str, Any] | None = None) -> tuple[str, ...]:
        """Raise NoCompatibleSystemForActor unless ``cls`` may run here.

        Returns which of ``capabilities`` and ``requirements`` its constructor wants by name.
        """
        check, wanted = self._known.get(cls) or self._inspect(cls)
        if check is not None and not self._passes(check, requirements):
            raise NoCompatibleSystemForActor(cls, f"the capabilities {self.capabilities} forbid it")
        return wanted

    def make(self, cls: type | str, requirements: dict[str, Any] | None) -> Any:
        """A new object of the class, or of the class at the path ``package.module.Class``."""
        if isinstance(cls, str):
            cls = _import_class(cls)
        wanted = self.require(cls, requirements)
        if not wanted:
            return cls()
        given = {"capabilities": self.capabilities, "requirements": requirements}
        return cls(**{key: given[key] for key in wanted})

    def may_stay(self, actor: Any) -> bool:
        """Whether an actor's check still passes after a capability changed."""
        check = getattr(actor, "actorSystemCapabilityCheck", None)
        return check is None or self._passes(check, None)

    def _inspect(self, cls: type) -> tuple[Check | None, tuple[str, ...]]:
        if not isinstance(cls, type) or not issubclass(cls, Actor):
            raise InvalidActorSpecification(cls, "not a subclass of thespian.actors.Actor")
        parameters = inspect.signature(cls).parameters
        wanted = tuple(key for key in ("capabilities", "requirements") if key in parameters)
        self._known[cls] = found = (getattr(cls, "actorSystemCapabilityCheck", None), wanted)
        return found

    def _passes(self, check: Check, requirements: dict[str, Any] | None) -> bool:
        try:
            return bool(check(self.capabilities, requirements or {}))
        except Exception as error:
            _log.warning("a capability check failed and counts as no", exc_info=error)
            return False


def _import_class(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidActorSpecification(path, str(error)) from error
    if not isinstance(found, type):
        raise InvalidActorSpecification(path, "not a class")
    return found
