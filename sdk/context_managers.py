"""Context managers around invocations whose value handlers can reach without passing it on."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class contextvar(Generic[P, T]):
    """Decorates an ``@asynccontextmanager`` function; inside its block, ``.value`` is what it yields.

    The name is lower case, as it is used as a decorator.
    """

    def __init__(self, func: Callable[P, AbstractAsyncContextManager[T]]) -> None:
        self.func = func
        self._variable: ContextVar[T] = ContextVar(getattr(func, "__name__", "contextvar"))

    @property
    def value(self) -> T:
        """Raises LookupError outside of the block."""
        try:
            return self._variable.get()
        except LookupError:
            raise LookupError(
                f"{self._variable.name} has no value here: it has one only inside its async with block"
            ) from None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[None]:
        """The same context manager, with the value kept aside instead of yielded."""
        return self._enter(*args, **kwargs)

    @asynccontextmanager
    async def _enter(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[None, None]:
        async with self.func(*args, **kwargs) as value:
            token = self._variable.set(value)
            try:
                yield
            finally:
                self._variable.reset(token)
