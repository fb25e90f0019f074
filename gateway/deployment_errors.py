"""Why a deployment is not registered, updated or removed: status, code and text for the admin API.

Shapes only. Codes: admin 13; docs/errors/META.md has cause and remedy of each.
"""

from perdure.journal.errors import PerdureError


class DeploymentRefused(PerdureError):
    """``status`` is the HTTP status of the admin API; ``restate_code`` such as `META0003`, or None."""

    def __init__(self, status: int, message: str, restate_code: str | None = None) -> None:
        super().__init__(status, message, restate_code)
        self.status = status
        self.message = message
        self.restate_code = restate_code

    def __str__(self) -> str:
        return self.message


def coded(status: int, code: str, message: str) -> DeploymentRefused:
    """With its code in front of the text, as the official tools show it."""
    return DeploymentRefused(status, f"[{code}] {message}", code)
