"""A stateless service: the smallest thing that can be served, with its own input type.

    perdure up samples/greeter.py
    curl localhost:8080/Greeter/greet --json '{"name": "Ada"}'                # "Hello, Ada!"
    curl localhost:8080/Greeter/greet --json '{"name": "Zoë", "times": 2}'    # "Hello, hello, Zoë!"

Arguments are checked against type hints: `--json '{"nom": "Ada"}'` answers 400 and why.
"""

from dataclasses import dataclass

import perdure

greeter = perdure.Service("Greeter")


@dataclass
class Guest:
    name: str
    times: int = 1


@greeter.handler()
async def greet(ctx: perdure.Context, guest: Guest) -> str:
    hello = ", ".join(["hello"] * guest.times).capitalize()
    return f"{hello}, {guest.name}!"


app = perdure.app([greeter])
