"""Apps of other SDKs that run in this process: handed to the registrar at the start, closed at the end."""

import asyncio
from collections.abc import Sequence

from perdure.actors.remote.asgi import AsgiTransport
from perdure.gateway.asgi_apps import HostedApp
from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.deployments import Registrar
from perdure.gateway.executor import ClosureExecutor
from perdure.gateway.settings import SettingsError


class HostedApps:
    """All of one `perdure up`, with ``threads`` for their plain functions. Used on the engine's loop."""

    def __init__(self, apps: Sequence[HostedApp], threads: int) -> None:
        self._apps = apps
        self._threads = threads
        self._transports: list[AsgiTransport] = []

    async def deploy(self, registrar: Registrar) -> None:
        """Discover and deploy each. Raises SettingsError for one that is no deployment."""
        if self._apps:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ClosureExecutor(loop, self._threads))
        for each in self._apps:
            transport = AsgiTransport(each.app, path=each.path)
            self._transports.append(transport)
            try:
                await registrar.host(each.name, transport)
            except DeploymentRefused as error:
                raise SettingsError(f"the app '{each.name}' can't be hosted: {error}") from error

    async def close(self) -> None:
        """Shut the apps down. After the engine has stopped, so that no attempt is cut."""
        transports, self._transports = self._transports, []
        for each in transports:
            await each.close()
