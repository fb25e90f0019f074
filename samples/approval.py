"""A human in the loop, with a time limit: whichever comes first, the answer or the timer.

    perdure up samples/approval.py
    curl localhost:8080/Expense/claim/send --json '{"who": "Ada", "euro": 90}' -H 'idempotency-key: 1'

The server prints what Ada's boss has to do, which is to complete an awakeable by its id:

    curl localhost:8080/restate/awakeables/ID/resolve --json true
    curl localhost:8080/restate/invocation/Expense/claim/1/attach    # "approved"
"""

from dataclasses import dataclass
from datetime import timedelta

import perdure

expense = perdure.Service("Expense")


@dataclass
class Claim:
    who: str
    euro: int
    patience_s: float = 3 * 86_400


def ask_boss(claim: Claim, awakeable_id: str) -> None:
    """Stands for a chat message with two buttons."""
    print(f"{claim.who} wants {claim.euro} €. To agree (or false):", flush=True)
    print(f"curl localhost:8080/restate/awakeables/{awakeable_id}/resolve --json true", flush=True)


@expense.handler()
async def claim(ctx: perdure.Context, claim: Claim) -> str:
    awakeable_id, answer = ctx.awakeable(type_hint=bool)
    await ctx.run_typed("ask", ask_boss, perdure.RunOptions(), claim, awakeable_id)
    timer = ctx.sleep(timedelta(seconds=claim.patience_s))
    match await perdure.select(answer=answer, timer=timer):
        case ["answer", True]:
            return "approved"
        case ["answer", _]:
            return "refused"
        case _:
            return "nobody answered"


app = perdure.app([expense])
