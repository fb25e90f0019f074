"""A workflow that waits for somebody: sign up, get a mail, go on when the address is confirmed.

    perdure up samples/signup.py
    curl localhost:8080/Signup/ada/run/send --json '"ada@example.org"'
    curl localhost:8080/Signup/ada/status                        # "waiting"
    curl localhost:8080/Signup/ada/confirm --json true
    curl localhost:8080/restate/workflow/Signup/ada/attach       # "ada is a member"
    curl localhost:8080/Signup/ada/status                        # "confirmed"

The wait holds no thread and no process: it may take a month, and any number of restarts.
"""

import perdure

signup = perdure.Workflow("Signup")


def send_mail(address: str, text: str) -> None:
    """Stands for a mail server."""
    print(f"mail to {address}: {text}", flush=True)


@signup.main()
async def run(ctx: perdure.WorkflowContext, address: str) -> str:
    """Runs once per key, however often it is called."""
    user = ctx.key()
    await ctx.run_typed("ask", send_mail, perdure.RunOptions(), address, f"{user}, is it you?")
    if not await ctx.promise("confirmed", type_hint=bool):
        raise perdure.TerminalError(f"{address} belongs to somebody else", status_code=403)
    await ctx.run_typed("welcome", send_mail, perdure.RunOptions(), address, f"Welcome, {user}!")
    return f"{user} is a member"


@signup.handler()
async def confirm(ctx: perdure.WorkflowSharedContext, is_me: bool) -> None:
    """Sets the promise that ``run`` waits for, before or while it does. A second time: 409."""
    await ctx.promise("confirmed", type_hint=bool).resolve(is_me)


@signup.handler()
async def status(ctx: perdure.WorkflowSharedContext) -> str:
    answer = await ctx.promise("confirmed", type_hint=bool).peek()
    return {None: "waiting", True: "confirmed", False: "refused"}[answer]


app = perdure.app([signup])
