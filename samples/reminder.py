"""A delayed send: a call that comes in a second, or in a year, whatever happens until then.

    perdure up samples/reminder.py
    curl localhost:8080/Reminder/ada/remind --json '{"id": "tea", "text": "The tea!", "delay_s": 1}'
    curl localhost:8080/restate/invocation/Reminder/ada/ring/tea/attach    # "The tea!"
    curl localhost:8080/Reminder/ada/rung                                  # ["The tea!"]

The second line waits until the reminder has come: its id is the idempotency key of the send.
"""

from dataclasses import dataclass
from datetime import timedelta

import perdure

reminder = perdure.VirtualObject("Reminder")


@dataclass
class Note:
    id: str
    text: str
    delay_s: float


@reminder.handler(kind="shared")
async def remind(ctx: perdure.ObjectSharedContext, note: Note) -> None:
    """Asking twice for the same id is asking once."""
    delay = timedelta(seconds=note.delay_s)
    ctx.object_send(ring, ctx.key(), note.text, send_delay=delay, idempotency_key=note.id)


@reminder.handler()
async def ring(ctx: perdure.ObjectContext, text: str) -> str:
    print(f"{ctx.key()}: {text}", flush=True)
    ctx.set("rung", [*(await ctx.get("rung", type_hint=list[str]) or []), text])
    return text


@reminder.handler(kind="shared")
async def rung(ctx: perdure.ObjectSharedContext) -> list[str]:
    return await ctx.get("rung", type_hint=list[str]) or []


app = perdure.app([reminder])
