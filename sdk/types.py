"""Shapes that users meet besides contexts: the environment that a test harness yields."""

from dataclasses import dataclass
from typing import Any, Literal

from perdure.client_types import RestateClient
from perdure.handler import core_type


@dataclass
class HarnessEnvironment:
    """A running system under test, and a client of it."""

    ingress_url: str
    admin_api_url: str
    client: RestateClient


def extract_core_type(annotation: Any) -> tuple[Literal["optional", "simple"], Any]:
    """("optional", X) for ``X | None``, else ("simple", annotation)."""
    core = core_type(annotation)
    return ("simple" if core is annotation else "optional"), core
