"""An exactly-once order pipeline: 2,000 orders from ``orders.csv``, through objects that survive a kill.

    python samples/orders.py

Press Ctrl-C or ``kill -9`` it in the middle and run it again: it goes on where it was, and stock and
charges come out as if nothing had happened. All it knows is in ./orders-data; the card network's own
book is ./orders-ledger.csv. Remove both to start over. The same services can be served, too:

    perdure up samples/orders.py
    curl localhost:8080/Inventory/MUG-S/reserve --json 2     # true
    curl localhost:8080/Inventory/MUG-S/reserved             # 2
"""

# Longer than the other samples: half of it is services, half of it reads, shows and checks a real file.

import asyncio
import csv
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.progress import MofNCompleteColumn, Progress

import perdure

ORDERS, DATA, LEDGER = Path(__file__).with_name("orders.csv"), "orders-data", "orders-ledger.csv"
AT_ONCE, STOCK, SOLD_OUT = 100, 1_000, ("MUG-XL", "JAR-XS", "CAP-M")

order = perdure.VirtualObject("Order")  # a key is an order id
inventory = perdure.VirtualObject("Inventory")  # a key is a SKU
payment = perdure.VirtualObject("Payment")  # a key is a card token


@dataclass
class Line:
    order_id: str
    customer: str
    sku: str
    quantity: int
    unit_price_cents: int
    card_token: str

    @property
    def cents(self) -> int:
        return self.quantity * self.unit_price_cents


@order.handler()
async def place(ctx: perdure.ObjectContext, line: Line) -> str:
    """Once per order, however often its line is in the file or the program is started."""
    outcome = await ctx.get("outcome", type_hint=str)
    if outcome is None:
        outcome = await buy(ctx, line)
        ctx.set("outcome", outcome)
    return outcome


async def buy(ctx: perdure.ObjectContext, line: Line) -> str:
    if not await ctx.object_call(reserve, line.sku, line.quantity):
        return "out of stock"
    try:
        await ctx.object_call(charge, line.card_token, line)
    except perdure.TerminalError:  # declined; any other error is retried
        await ctx.object_call(release, line.sku, line.quantity)
        return "declined"
    return "placed"


@inventory.handler()
async def reserve(ctx: perdure.ObjectContext, quantity: int) -> bool:
    total = (await ctx.get("reserved", type_hint=int) or 0) + quantity
    if total > (0 if ctx.key() in SOLD_OUT else STOCK):
        return False
    ctx.set("reserved", total)
    return True


@inventory.handler()
async def release(ctx: perdure.ObjectContext, quantity: int) -> None:
    ctx.set("reserved", (await ctx.get("reserved", type_hint=int) or 0) - quantity)


@inventory.handler(kind="shared")
async def reserved(ctx: perdure.ObjectSharedContext) -> int:
    return await ctx.get("reserved", type_hint=int) or 0


@payment.handler()
async def charge(ctx: perdure.ObjectContext, line: Line) -> None:
    await ctx.run_typed("card network", charge_card, perdure.RunOptions(), line)
    charges = await ctx.get("charges", type_hint=dict[str, int]) or {}
    ctx.set("charges", charges | {line.order_id: line.cents})


@payment.handler(kind="shared")
async def charged(ctx: perdure.ObjectSharedContext) -> dict[str, int]:
    return await ctx.get("charges", type_hint=dict[str, int]) or {}


def charge_card(line: Line) -> None:
    """The one effect outside. Once its result is in the journal, it never runs again.

    A crash between the write and the journal repeats it; the order id is the idempotency token by
    which a card network, or the reader of this ledger, tells a repetition from a second charge.
    """
    if line.card_token.startswith("tok_declined"):
        raise perdure.TerminalError(f"{line.card_token} was declined", status_code=402)
    with open(LEDGER, "a") as ledger:  # O_APPEND: one line, one write
        ledger.write(f"{line.order_id},{line.cents}\n")


app = perdure.app([order, inventory, payment])


@dataclass
class Books:
    """What all orders lead to."""

    outcomes: dict[str, str]  # by order id
    units: Counter[str]  # by SKU
    charges: dict[str, int]  # cents by order id


def expected(lines: list[Line]) -> Books:
    """The books, by a plain loop that nobody interrupts."""
    books = Books({}, Counter(), {})
    for line in {line.order_id: line for line in lines}.values():
        declined = line.card_token.startswith("tok_declined")
        outcome = "out of stock" if line.sku in SOLD_OUT else "declined" if declined else "placed"
        books.outcomes[line.order_id] = outcome
        if outcome == "placed":
            books.units[line.sku] += line.quantity
            books.charges[line.order_id] = line.cents
    return books


async def run(lines: list[Line]) -> Books:
    """The books, as the objects keep them."""
    books = Books({}, Counter(), {})
    todo = iter(lines)
    async with perdure.open(DATA, app) as system:
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress:
            bar = progress.add_task("Orders", total=len(lines))

            async def work() -> None:
                for line in todo:
                    outcome = await system.object_call(place, line.order_id, line)
                    books.outcomes[line.order_id] = outcome
                    progress.advance(bar)

            async with asyncio.TaskGroup() as workers:
                for _ in range(AT_ONCE):
                    workers.create_task(work())
        for sku in {line.sku for line in lines}:
            books.units[sku] = await system.object_call(reserved, sku)
        for card in {line.card_token for line in lines}:
            books.charges |= await system.object_call(charged, card)
    return books


def read(path: Path) -> list[Line]:
    with path.open(encoding="utf-8", newline="") as file:
        return [msgspec.convert(row, Line, strict=False) for row in csv.DictReader(file)]


def main() -> None:
    lines, started_s = read(ORDERS), time.monotonic()
    books = asyncio.run(run(lines))
    took_s = time.monotonic() - started_s
    ledger = [row.split(",") for row in Path(LEDGER).read_text().splitlines()]
    outcomes = Counter(books.outcomes.values())
    by_token = {order_id: int(cents) for order_id, cents in ledger}
    print(f"lines        {len(lines):>10,}  {len(lines) - len(books.outcomes)} of them duplicates")
    print(f"orders       {len(books.outcomes):>10,}  {dict(outcomes)}")
    print(f"units        {books.units.total():>10,}")
    print(f"revenue      {sum(books.charges.values()) / 100:>10,.2f}")
    print(f"ledger       {len(ledger):>10,}  {len(ledger) - len(by_token)} repeated by a crash")
    print(f"time         {took_s:>9.1f}s")
    if books != expected(lines) or by_token != books.charges:
        sys.exit("WRONG: the books differ from what a plain loop over the file computes")
    print("Exactly what a plain loop over the file computes.")


if __name__ == "__main__":
    main()
