"""An ASGI app's lifespan: started once before the first exchange, shut down when the transport closes."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.actors.remote.asgi import AsgiTransport
from perdure.actors.remote.fetch import Response, fetch
from perdure.actors.remote.lifespan import AsgiReceive, AsgiSend, Scope
from perdure.actors.remote.port import TransportFailed
from tests.actors.remote.exchanges import Notes, left_tasks, post


class App:
    """Notes what happens to it; ``outcome`` is how its startup goes."""

    def __init__(self, outcome: str = "complete") -> None:
        self.outcome = outcome
        self.heard: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
            return
        self.heard.append("request")
        state = scope.get("state")
        body = b"none" if state is None else str(state).encode()
        if state is not None:
            state["own"] = True  # an exchange has a copy
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def live(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if self.outcome == "raises":
            raise RuntimeError("unsupported")
        if self.outcome == "returns":
            return
        self.heard.append((await receive())["type"])
        await self.gate.wait()
        if self.outcome == "failed":
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        scope["state"]["n"] = 1
        await send({"type": "lifespan.startup.complete"})
        if self.outcome == "dies":
            raise RuntimeError("died")
        self.heard.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})


def run(test: Coroutine[Any, Any, None]) -> None:
    async def checked() -> None:
        await test
        assert left_tasks() == set()

    asyncio.run(checked())


def test_lifespan_surrounds_all_exchanges() -> None:
    async def test() -> None:
        app = App()
        transport = AsgiTransport(app)
        assert app.heard == []
        app.gate.clear()
        asyncio.get_running_loop().call_later(0, app.gate.set)
        answers = await asyncio.gather(*(fetch(transport, post()) for _ in range(3)))
        assert {each.body for each in answers} == {b"{'n': 1}"}
        await transport.close()
        await transport.close()
        assert app.heard == [
            "lifespan.startup", "request", "request", "request", "lifespan.shutdown",
        ]  # fmt: skip

    run(test())


@pytest.mark.parametrize("outcome", ["raises", "returns"])
def test_app_without_a_lifespan_is_served(outcome: str) -> None:
    async def test() -> None:
        transport = AsgiTransport(App(outcome))
        assert await fetch(transport, post()) == Response(200, (), b"none")
        await transport.close()

    run(test())


def test_failed_startup_fails_the_exchange_and_is_tried_again() -> None:
    async def test() -> None:
        app = App("failed")
        transport = AsgiTransport(app)
        with pytest.raises(TransportFailed, match=r"lifespan\.startup failed: no database"):
            await fetch(transport, post())
        app.outcome = "complete"
        assert (await fetch(transport, post())).status == 200
        await transport.close()

    run(test())


def test_app_whose_lifespan_dies_later_is_still_served(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        transport = AsgiTransport(App("dies"))
        for _ in range(2):
            assert (await fetch(transport, post())).status == 200
        await transport.close()

    run(test())
    assert "an app failed in its lifespan" in caplog.text


def test_close_does_not_wait_for_a_startup_that_hangs() -> None:
    async def test() -> None:
        app = App()
        app.gate.clear()
        transport = AsgiTransport(app)
        notes = Notes()
        transport.open(post(), notes)
        with pytest.raises(TransportFailed, match=r"within 0\.01 s"):
            await fetch(transport, post(), timeout_s=0.01)
        await transport.close()
        assert notes.heard == []

    run(test())
