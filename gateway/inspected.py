"""From the runtime behind a gateway to a look into its partitions, in this process or in others."""

from perdure.actors.engine import Engine
from perdure.actors.inspector import Inspector
from perdure.journal.inspecting import Inspectable, Inspection
from perdure.journal.requests import Runtime


def inspection_of(runtime: Runtime) -> Inspection | None:
    """None for a runtime that cannot be looked into."""
    if isinstance(runtime, Engine):
        return Inspector(runtime)
    return runtime.inspection if isinstance(runtime, Inspectable) else None
